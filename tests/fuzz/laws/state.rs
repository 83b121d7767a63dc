//! The state on stdin.

use netlatch::oci::State;
use netlatch::oci::state::{MAX_ID, Status};
use serde_json::{Value, json};

/// Whatever is taken names a file, and printed and read again it is the same.
pub(crate) fn holds(bytes: &[u8]) {
    let state = match State::parse(bytes) {
        Ok(state) => state,
        Err(failure) => return super::assert_failure(&failure, &[12]),
    };
    assert!((1..=MAX_ID).contains(&state.id.len()) && !state.id.contains('/') && !state.id.starts_with('\0'));
    assert!(state.id != "." && state.id != "..");
    assert!(state.pid.is_none_or(|pid| pid >= 0));
    assert!(state.bundle.as_ref().is_none_or(|bundle| bundle.is_absolute()));
    super::assert_line(&state.id);
    super::assert_line(&state.status.to_string());
    let again = State::parse(print(&state).to_string().as_bytes());
    assert_eq!(again.as_ref(), Ok(&state));
}

fn print(state: &State) -> Value {
    json!({
        "id": state.id,
        "ociVersion": state.version,
        "status": match &state.status {
            Status::Known(status) => Some(status.to_string()),
            Status::Other(status) => Some(status.clone()),
            Status::Missing => None,
        },
        "pid": state.pid,
        "bundle": state.bundle,
        "annotations": state.annotations,
    })
}
