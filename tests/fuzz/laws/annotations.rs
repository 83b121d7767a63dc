//! A container's annotations, ours and its engine's, and its sandbox's.
//!
//! The input is `key=value` after `key=value`, with an empty line between two, and those of the sandbox behind a line
//! `----`.

use std::collections::BTreeMap;
use std::path::Path;

use netlatch::net::Origin;
use netlatch::oci::{Bundle, Requests, State, sandbox_file};
use netlatch::plan::{Facts, plan};
use netlatch::policy::list::List;
use netlatch::settings::{Config, Settings};
use serde_json::json;

/// The admin whose word stands against the container's.
const ADMIN: &[u8] = b"egress: [10.0.0.0/8, '*:443']\nallow-sysctls: ['net.ipv4.*', net.core.somaxconn]\nsysctl:\n  net.ipv4.ip_forward: 0\n";

/// What is accepted can be decided about, planned and printed, and its lists mean the same when they are written again.
pub(crate) fn holds(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (own, beside) = match text.split_once("\n----\n") {
        Some((own, beside)) => (pairs(own), Some(pairs(beside))),
        None => (pairs(&text), None),
    };
    if let Some(file) = sandbox_file(&own, Path::new("/run/c/0/userdata")) {
        assert!(file.starts_with("/run/c") && !file.components().any(|part| part.as_os_str() == ".."), "{file:?}");
    }
    let sandbox = beside.map(|annotations| {
        let bundle = json!({ "annotations": annotations }).to_string();
        Bundle::parse("/run/c/1/userdata/config.json", bundle.as_bytes()).expect("an object of strings")
    });
    let requests = match Requests::parse_in_pod(&own, sandbox.as_ref()) {
        Ok(requests) => requests,
        Err(failure) => return super::assert_failure(&failure, &[15]),
    };
    for list in [&requests.egress, &requests.ingress].into_iter().flatten() {
        assert_same_again(&list.value, &list.origin);
    }
    for config in [None, Config::parse("c.yaml", ADMIN).ok()] {
        match Settings::decide(config, requests.clone()) {
            Ok(settings) => assert_planned(&settings),
            Err(failure) => super::assert_failure(&failure, &[17, 18]),
        }
    }
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    };
    text.split("\n\n").filter(|part| !part.is_empty()).map(pair).collect()
}

/// A list that is written from its entries is the same list.
pub(crate) fn assert_same_again(list: &List, origin: &Origin) {
    let texts: Vec<&str> = list.entries().map(|entry| entry.text()).collect();
    let text = if texts.is_empty() { "none".to_owned() } else { texts.join(" ") };
    assert_eq!(List::parse(&text, origin).as_ref(), Ok(list));
}

/// What settings come to for a container without a bundle.
pub(crate) fn assert_planned(settings: &Settings) {
    let state = State::parse(br#"{"ociVersion":"1.0","id":"c","pid":5}"#).expect("a state");
    let host = ["198.51.100.1", "2001:db8::1"].map(|address| address.parse().expect("an address")).to_vec();
    match plan(&state, None, settings, &Facts { host, ..Facts::default() }, None) {
        Ok(plan) => super::assert_plan(&plan),
        Err(failure) => super::assert_failure(&failure, &[13, 18, 41]),
    }
}
