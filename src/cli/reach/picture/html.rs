//! The picture as a page of its own: nothing is loaded from anywhere. Without scripts it is the picture and a list.

use std::fmt::Write as _;

use serde_json::json;

use super::paint::xml;
use super::{Cell, Picture, svg};

/// What makes the picture answer to the pointer. It puts names into the page as text alone.
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// A whole page. Its script reads what is drawn from a block of JSON, so nothing that a manifest says is ever part of a script.
pub fn html(picture: &Picture) -> String {
    let title = xml(&format!("Who reaches whom: {}", picture.subtitle()));
    let mut list = String::new();
    for (index, group) in picture.groups.iter().enumerate() {
        let members = group.members.join(", ");
        let _ = writeln!(list, "<li><b>{}</b> {}</li>", xml(&picture.full_name(index)), xml(&members));
    }
    // Last line of defence: even markup that got in could load nothing and send nothing.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<div id=\"controls\" hidden>\n<label>Name <input id=\"find\" type=\"search\" placeholder=\"web\"></label>\n\
         <label>Port <input id=\"port\" type=\"search\" placeholder=\"TCP 443\"></label>\n\
         <span id=\"line\">Point at a name or a cell; click a name to hold it.</span>\n</div>\n\
         <main>\n<figure>\n{}</figure>\n<aside id=\"panel\" hidden></aside>\n</main>\n\
         <details>\n<summary>Everyone in each group</summary>\n<ul>\n{list}</ul>\n</details>\n\
         <script type=\"application/json\" id=\"data\">{}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        svg::element(picture),
        data(picture),
    )
}

/// For the script: -1 is nothing, -2 not asked, everything else the index of a kind.
fn data(picture: &Picture) -> String {
    let cells = picture.cells.iter().map(|cell| match cell {
        Cell::Nothing => -1,
        Cell::Moot => -2,
        Cell::Passes(kind) => i64::try_from(*kind).unwrap_or(-2),
    });
    let kinds = picture.kinds.iter().map(|kind| json!({"name": kind.name, "spoken": kind.spoken}));
    let data = json!({
        "groups": picture.groups_json(),
        "kinds": kinds.collect::<Vec<_>>(),
        "cells": cells.collect::<Vec<_>>(),
    });
    // `</script` and `<!--` end or change a script element (HTML, 13.2.5.4); JSON has another spelling for their first character.
    data.to_string().replace('<', "\\u003c").replace('>', "\\u003e")
}
