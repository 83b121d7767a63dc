//! The picture as a page.
use super::Picture;
use super::svg;
/// A page of its own.
pub fn html(picture: &Picture) -> String {
    svg::element(picture)
}
