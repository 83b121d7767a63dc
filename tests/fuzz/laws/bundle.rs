//! A bundle's config.json.

use netlatch::oci::{Bundle, Requests, State};
use netlatch::plan::{Facts, plan};
use netlatch::settings::{Config, Settings};

/// Admins who want much of a bundle and little.
const ADMINS: [&str; 2] = [
    "egress: [10.0.0.0/8, '@internet']\nipv6: disable\nnet-admin: allow\n",
    "ingress: none\nsysctl: {net.ipv4.ip_forward: 0}\n",
];

/// The white space and the mark that editors put around a document mean nothing, and no capability is held in one spelling
/// alone. What is planned with it can be printed, whatever names it holds.
pub(crate) fn holds(bytes: &[u8]) {
    let bundle = match Bundle::parse("/b/config.json", bytes) {
        Ok(bundle) => bundle,
        Err(failure) => return super::assert_failure(&failure, &[13]),
    };
    let mut padded = b"\xef\xbb\xbf \n".to_vec();
    padded.extend(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    padded.push(b'\n');
    assert_eq!(Bundle::parse("/b/config.json", &padded).as_ref(), Ok(&bundle));
    for capability in ["NET_ADMIN", "NET_RAW"] {
        let names = [capability.to_owned(), format!("CAP_{capability}"), format!("cap_{}", capability.to_lowercase())];
        let held = names.map(|name| bundle.holds_capability(&name));
        assert!(held.iter().all(|set| *set == held[0]), "{held:?}");
    }
    for admin in ADMINS {
        let config = Config::parse("c.yaml", admin.as_bytes()).expect("a configuration");
        let settings = Settings::decide(Some(config), Requests::default()).expect("settings");
        let state = State::parse(br#"{"ociVersion":"1.0","id":"c","pid":5}"#).expect("a state");
        match plan(&state, Some(&bundle), &settings, &Facts::default(), None) {
            Ok(plan) => super::assert_plan(&plan),
            Err(failure) => super::assert_failure(&failure, &[13, 18, 28, 41]),
        }
    }
}
