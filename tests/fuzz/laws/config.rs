//! The configuration file.

use netlatch::oci::Requests;
use netlatch::settings::{Config, Settings, check};

/// `check` and the hook come to the same, and what is accepted can be planned with.
pub(crate) fn holds(bytes: &[u8]) {
    let (config, errors, warnings) = check("c.yaml", bytes);
    super::assert_findings(&errors);
    super::assert_findings(&warnings);
    assert_eq!(config.is_some(), errors.is_empty());
    match Config::parse("c.yaml", bytes) {
        Ok(parsed) => {
            assert_eq!(Some(&parsed), config.as_ref());
            for list in [&parsed.egress, &parsed.ingress].into_iter().flatten() {
                let texts: Vec<&str> = list.value.entries().map(|entry| entry.text()).collect();
                assert!(!texts.iter().any(|text| text.contains(['\n', ' ', ','])), "{texts:?}");
            }
            match Settings::decide(Some(parsed), Requests::default()) {
                Ok(settings) => super::annotations::assert_planned(&settings),
                Err(failure) => super::assert_failure(&failure, &[17, 18]),
            }
        }
        Err(failure) => {
            assert!(config.is_none());
            super::assert_failure(&failure, &[14]);
        }
    }
}
