//! The container's state, as a runtime writes it on a hook's stdin.
//!
//! `oci_spec::runtime::State` takes `{}` for a stopped container without a name and refuses a status it does not know,
//! so the object is read here: what we rely on must be there, and what runtimes do otherwise than the specification
//! (facts pinned by the golden states below) is taken.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use oci_spec::runtime::ContainerState;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::json::{Strings, problem};
use crate::document::shown;
use crate::error::{Cause, Failure};

/// Longest state in bytes. Annotations may be large: 300 KB were seen to pass.
pub const MAX_STATE: usize = 8 << 20;
/// Longest id in bytes. It becomes a file name, with a suffix, and a file name has at most 255 (`NAME_MAX`).
pub const MAX_ID: usize = 240;

/// A checked state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The container's id: 1 to [`MAX_ID`] of `A-Za-z0-9+_.-`, never `.` or `..`, so it can be a file name.
    pub id: String,
    /// `ociVersion`, not empty. crun says `1.0`, which is no semantic version.
    pub version: String,
    /// `status`.
    pub status: Status,
    /// The process in the runtime's pid namespace; not negative. 0 and 1 are kept, for the caller to refuse.
    pub pid: Option<i32>,
    /// The bundle, an absolute path. Only a hint: crun may say `/` (containers/crun#2025).
    pub bundle: Option<PathBuf>,
    /// `None` where the state carries none at all.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What the runtime calls the container's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// One of the specification's four.
    Known(ContainerState),
    /// Another: the specification lets runtimes add some, and crun says `starting`.
    Other(String),
    /// None was given.
    Missing,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Known(status) => write!(f, "{status}"),
            Status::Other(status) => f.write_str(&shown(status)),
            Status::Missing => f.write_str("no status"),
        }
    }
}

impl State {
    /// Reads the one JSON object in `bytes`. Unknown fields are skipped, as the specification demands.
    ///
    /// # Errors
    /// [`Cause::State`] with line and column.
    pub fn parse(bytes: &[u8]) -> Result<State, Failure> {
        let fail = |problem: String| Failure::new("read the container's state on stdin", Cause::State(problem));
        if bytes.len() > MAX_STATE {
            return Err(fail(format!("it is longer than {MAX_STATE} bytes (MAX_STATE)")));
        }
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        if bytes.trim_ascii().is_empty() {
            return Err(fail("it is empty; expected one JSON object".to_owned()));
        }
        serde_json::from_slice(bytes).map_err(|error| fail(problem(&error)))
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<State, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = State;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the container's state, a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<State, A::Error> {
        let mut id: Option<Option<String>> = None;
        let mut version: Option<Option<String>> = None;
        let mut status: Option<Option<String>> = None;
        let mut pid: Option<Option<i32>> = None;
        let mut bundle: Option<Option<String>> = None;
        let mut annotations: Option<Option<Strings>> = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" => once(&mut id, &mut map, "id")?,
                "ociVersion" => once(&mut version, &mut map, "ociVersion")?,
                "status" => once(&mut status, &mut map, "status")?,
                "pid" => once(&mut pid, &mut map, "pid")?,
                "bundle" => once(&mut bundle, &mut map, "bundle")?,
                "annotations" => once(&mut annotations, &mut map, "annotations")?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let required = |field: Option<Option<String>>, name: &str| match field.flatten() {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(A::Error::custom(format!("{name} is empty"))),
            None => Err(A::Error::custom(format!("{name} is missing"))),
        };
        let id = required(id, "id")?;
        check_id(&id).map_err(A::Error::custom)?;
        let version = required(version, "ociVersion")?;
        let pid = pid.flatten();
        if let Some(pid) = pid.filter(|pid| *pid < 0) {
            return Err(A::Error::custom(format!("pid is {pid}; expected a process id")));
        }
        let bundle = bundle.flatten().filter(|bundle| !bundle.is_empty());
        if let Some(bundle) = bundle.as_ref().filter(|bundle| !bundle.starts_with('/') || bundle.contains('\0')) {
            return Err(A::Error::custom(format!("bundle is {}; expected an absolute path", shown(bundle))));
        }
        let status = match status.flatten() {
            None => Status::Missing,
            Some(text) => match text.as_str() {
                "creating" => Status::Known(ContainerState::Creating),
                "created" => Status::Known(ContainerState::Created),
                "running" => Status::Known(ContainerState::Running),
                "stopped" => Status::Known(ContainerState::Stopped),
                _ => Status::Other(text),
            },
        };
        let annotations = annotations.flatten().map(|strings| strings.0);
        Ok(State { id, version, status, pid, bundle: bundle.map(PathBuf::from), annotations })
    }
}

/// Reads one field's value, naming the field where it is wrong or stands twice.
fn once<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    slot: &mut Option<T>,
    map: &mut A,
    name: &str,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::custom(format!("{name} stands twice")));
    }
    *slot = Some(map.next_value().map_err(|error| A::Error::custom(format!("{name}: {error}")))?);
    Ok(())
}

pub(super) fn check_id(id: &str) -> Result<(), String> {
    if id.len() > MAX_ID {
        return Err(format!("id has {} bytes; at most {MAX_ID} make a file name (MAX_ID)", id.len()));
    }
    // What runc takes (libcontainer/factory_linux.go, validateID).
    if let Some(odd) = id.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '_' | '.' | '-')) {
        return Err(format!("id {} holds {odd:?}; expected letters, digits and any of + _ . -", shown(id)));
    }
    if id == "." || id == ".." {
        return Err(format!("id {id:?} is not a file name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> State {
        crate::schema::tests::state_is_judged(text.as_bytes(), true);
        State::parse(text.as_bytes()).unwrap_or_else(|failure| panic!("{text}: {failure}"))
    }

    fn refused(text: impl AsRef<[u8]>) -> String {
        let failure = State::parse(text.as_ref()).expect_err("a refusal");
        assert_eq!(failure.exit_code(), 12);
        let line = failure.to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    }

    /// What runc 1.1.5 and crun 1.8.1 wrote, and what crun#2025 shows.
    #[test]
    fn the_states_that_runtimes_write_are_taken() {
        let runc = parse(
            r#"{"ociVersion":"1.0.2-dev","id":"ohk1","status":"creating","pid":18173,"bundle":"/run/bundles/b","annotations":{"io.example.a":"b"}}"#,
        );
        assert_eq!(
            runc,
            State {
                id: "ohk1".into(),
                version: "1.0.2-dev".into(),
                status: Status::Known(ContainerState::Creating),
                pid: Some(18173),
                bundle: Some("/run/bundles/b".into()),
                annotations: Some([("io.example.a".to_owned(), "b".to_owned())].into()),
            }
        );
        let crun = parse(
            r#"{"ociVersion":"1.0","id":"ohk3","pid":22546,"root":"rootfs","bundle":"/run/bundles/b","status":"created","annotations":{}}"#,
        );
        assert_eq!((crun.version.as_str(), crun.pid), ("1.0", Some(22546)));
        assert_eq!(crun.annotations, Some(BTreeMap::new()));
        let runc = parse(r#"{"ociVersion":"1.0.2-dev","id":"ohk1","status":"stopped","bundle":"/run/bundles/b"}"#);
        assert_eq!((runc.status, runc.pid, runc.annotations), (Status::Known(ContainerState::Stopped), None, None));
        let crun = parse(
            r#"{"ociVersion":"1.0","id":"ohk3","pid":0,"root":"rootfs","bundle":"/run/bundles/b","status":"stopped","annotations":{"a":"b"}}"#,
        );
        assert_eq!(crun.pid, Some(0));
        let wrong_bundle = parse(
            r#"{"ociVersion":"1.0","id":"0f","pid":65910,"root":"/var/tmp/intermediate-mountpoint-0.0","bundle":"/","status":"created","annotations":{"io.container.manager":"libpod"}}"#,
        );
        assert_eq!(wrong_bundle.bundle, Some("/".into()));
        let starting = parse(r#"{"ociVersion":"1.0","id":"c","pid":0,"status":"starting"}"#);
        assert_eq!(starting.status, Status::Other("starting".into()));
        // A restore by CRIU under runc: createRuntime with a pid and "stopped".
        let restore = parse(r#"{"ociVersion":"1.2.0","id":"c","pid":77,"status":"stopped","bundle":"/b"}"#);
        assert_eq!((restore.status, restore.pid), (Status::Known(ContainerState::Stopped), Some(77)));
    }

    #[test]
    fn spelling_does_not_matter() {
        let state = parse(
            "\u{feff}{\n  \"ociVersion\": \"1.1.0\",\n  \"id\": \"a.b_c+d-1\",\n  \"pid\": 5,\n  \"bundle\": \"\\/run\\/b\",\n  \"annotations\": null,\n  \"x\": [{\"id\": 1}]\n}\n\n",
        );
        assert_eq!(state.bundle, Some("/run/b".into()));
        assert_eq!((state.annotations, state.status), (None, Status::Missing));
        let state = parse(r#"{"ociVersion":"1","id":"c","annotations":{"k":"\ud83d\ude00\u0000"}}"#);
        assert_eq!(state.annotations.unwrap()["k"], "😀\0");
    }

    #[test]
    fn what_is_no_state_is_refused_and_the_message_says_where() {
        for (text, wanted) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("{}", "id is missing"),
            ("null", "expected the container's state"),
            ("[]", "expected the container's state"),
            ("{", "line 1 column 1"),
            (r#"{"id":"c"}"#, "ociVersion is missing"),
            (r#"{"ociVersion":"","id":"c"}"#, "ociVersion is empty"),
            (r#"{"ociVersion":"1","id":""}"#, "id is empty"),
            (r#"{"ociVersion":"1","id":5}"#, "id: invalid type: integer `5`, expected a string at line 1 column 24"),
            (r#"{"ociVersion":"1","id":"c","pid":"5"}"#, "pid: invalid type"),
            (r#"{"ociVersion":"1","id":"c","pid":-1}"#, "pid is -1"),
            (r#"{"ociVersion":"1","id":"c","pid":4294967297}"#, "pid: invalid value"),
            (r#"{"ociVersion":"1","id":"c","pid":1e400}"#, "pid: number out of range"),
            (r#"{"ociVersion":"1","id":"c","pid":5.0}"#, "pid: invalid type"),
            (r#"{"ociVersion":"1","id":"c","bundle":"b"}"#, "expected an absolute path"),
            (r#"{"ociVersion":"1","id":"c","annotations":{"a":1}}"#, "annotations: \"a\": invalid type"),
            (r#"{"ociVersion":"1","id":"c","annotations":{"a":"1","a":"2"}}"#, "the key \"a\" stands twice"),
            (r#"{"ociVersion":"1","id":"c","annotations":[]}"#, "expected an object of strings"),
            (r#"{"ociVersion":"1","id":"c","id":"d"}"#, "id stands twice"),
            (r#"{"ociVersion":"1","id":"c"} x"#, "trailing characters at line 1 column 29"),
            (r#"{"ociVersion":"1","id":"c"}{}"#, "trailing characters"),
            (r#"{"ociVersion":"1","id":"\ud83d"}"#, "at line 1"),
        ] {
            let found = refused(text);
            assert!(found.contains(wanted), "{text}: {found}");
        }
        refused(b"{\"ociVersion\":\"1\",\"id\":\"\xff\"}");
        refused(format!(r#"{{"ociVersion":"1","id":"c","x":{}"#, "[".repeat(100_000)));
        refused(format!(r#"{{"ociVersion":"1","id":"c","annotations":{}"#, "{\"a\":".repeat(100_000)));
        let long = format!(r#"{{"ociVersion":"1","id":"c","pid":"{}"}}"#, "x".repeat(300_000));
        assert!(refused(&long).len() < 1000 && refused(&long).contains("at line 1 column 300"), "{}", refused(&long));
        assert!(refused(vec![b' '; MAX_STATE + 1]).contains("MAX_STATE"));
    }

    #[test]
    fn an_id_must_be_a_file_name() {
        for id in ["../x", "a/b", ".", "..", "a b", "a\\u0000", "a\\n", "ü", "a,b", "a:b", &"x".repeat(MAX_ID + 1)] {
            refused(format!(r#"{{"ociVersion":"1","id":"{id}"}}"#));
        }
        for id in ["...", "a..b", ".x", "-", &"x".repeat(MAX_ID)] {
            parse(&format!(r#"{{"ociVersion":"1","id":"{id}"}}"#));
        }
    }

    #[test]
    fn large_annotations_pass() {
        let value = "x".repeat(300_000);
        let state = parse(&format!(r#"{{"ociVersion":"1","id":"c","annotations":{{"a":"{value}"}}}}"#));
        assert_eq!(state.annotations.unwrap()["a"].len(), 300_000);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = State::parse(&bytes);
        }

        #[test]
        fn no_json_like_text_panics(text in r#"\{("(id|pid|ociVersion|annotations|bundle|status)":("[a-z/.\\u0-9]{0,6}"|-?[0-9]{1,12}|null|\{\}|[\[{]{1,3}),?){0,6}\}?"#) {
            let _ = State::parse(text.as_bytes());
        }
    }
}
