//! `nft` as the judge of our tables, run in the namespace of whoever asks.

use std::io::Write;
use std::process::{Command, Stdio};

use netlatch::nft::build::{build, guard, signed};
use netlatch::nft::filter::Filter;
use netlatch::nft::ruleset::Table;

/// The table as a plan has it.
pub(crate) fn table(filter: &Filter) -> Table {
    signed(build(filter, String::new()).unwrap(), guard(filter))
}

/// Runs `nft` with this on its standard input; what it prints.
pub(crate) fn nft(args: &[&str], stdin: &str) -> String {
    let mut child = Command::new("nft")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nft is installed (scripts/test.sh does it)");
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {args:?}: {}\n{stdin}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `nft -j list ruleset` with the elements of sets sorted, since a hash's order depends on the kernel's seed, and
/// without the table's own handle: our text adds and deletes the table before it makes it, so it gets the second one.
pub(crate) fn listing() -> serde_json::Value {
    let mut listing: serde_json::Value = serde_json::from_str(&nft(&["-j", "list", "ruleset"], "")).unwrap();
    for object in listing["nftables"].as_array_mut().unwrap() {
        if let Some(elements) = object.pointer_mut("/set/elem").and_then(|elem| elem.as_array_mut()) {
            elements.sort_by_key(|element| element.to_string());
        }
        if let Some(table) = object.get_mut("table").and_then(|table| table.as_object_mut()) {
            table.remove("handle");
        }
    }
    listing
}
