//! The arrows.
use super::Picture;
use super::links::Links;
use super::svg::Drawing;
pub(super) fn draw(_picture: &Picture, _links: &Links) -> Option<Drawing> {
    None
}
