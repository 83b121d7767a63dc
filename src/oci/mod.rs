//! What a runtime hands us: the state on stdin, the bundle's config.json, and the annotations in both; and what engines
//! write in a pod's sandbox about its containers. And the other way round, how this program is registered there.
//!
//! Everything here is a function of bytes.

pub mod annotations;
pub mod bundle;
mod engine;
pub mod hooks;
mod json;
pub mod request;
pub mod state;

use std::collections::BTreeMap;

pub use annotations::{Annotation, Requests};
pub use bundle::{Bundle, NetworkNamespace, PidNamespace};
pub use engine::{contradicted_labels, sandbox_file};
pub use request::{Mode, OnDenied, Sourced};
pub use state::{State, Status};

/// The annotations that count. The state's own win; config.json's are used only where the state carries none at all
/// (`"annotations": {}` is a statement, a missing key is not): config.json may have changed since the runtime read it.
pub fn annotations<'a>(state: &'a State, bundle: Option<&'a Bundle>) -> Option<&'a BTreeMap<String, String>> {
    state.annotations.as_ref().or_else(|| bundle.and_then(|bundle| bundle.annotations.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_annotations_win_even_when_empty() {
        let bundle = Bundle::parse("c", br#"{"annotations":{"a":"bundle"}}"#).unwrap();
        let state = |rest: &str| State::parse(format!(r#"{{"ociVersion":"1.0","id":"x"{rest}}}"#).as_bytes()).unwrap();
        let of = |state: &State, bundle| annotations(state, bundle).and_then(|map| map.get("a").cloned());
        assert_eq!(of(&state(r#","annotations":{"a":"state"}"#), Some(&bundle)).as_deref(), Some("state"));
        assert_eq!(of(&state(r#","annotations":{}"#), Some(&bundle)), None);
        assert_eq!(of(&state(""), Some(&bundle)).as_deref(), Some("bundle"));
        assert_eq!(of(&state(""), None), None);
    }
}
