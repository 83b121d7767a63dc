//! What is mounted into a container. Nothing here is opened or looked at: a mount is its names.

use serde::Deserialize;

use crate::document::shown;

/// One of `mounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted, on the host; cleaned up, as far as names tell.
    pub source: String,
    /// Where, in the container; cleaned up as well.
    pub destination: String,
    /// `type`, where there is one.
    pub kind: String,
    /// It is part of the host's tree.
    pub bind: bool,
    /// It was asked for read-only.
    pub read_only: bool,
}

impl Mount {
    /// The source as a message may hold it.
    pub fn shown_source(&self) -> String {
        shown(&self.source)
    }
}

/// `mounts` as it is written.
#[derive(Deserialize)]
pub(super) struct Written {
    destination: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    options: Option<Vec<String>>,
}

impl From<Written> for Mount {
    fn from(written: Written) -> Mount {
        let kind = written.kind.unwrap_or_default();
        let has = |names: &[&str]| written.options.iter().flatten().any(|option| names.contains(&option.as_str()));
        Mount {
            bind: kind == "bind" || has(&["bind", "rbind"]),
            read_only: has(&["ro", "rro"]),
            source: clean(&written.source.unwrap_or_default()),
            destination: clean(&written.destination),
            kind,
        }
    }
}

/// An absolute path without `.`, `..` and doubled slashes, and with /run where /var/run stands, which is a link to it on
/// every system that runs containers. Another path stays as it is.
pub(super) fn clean(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let parts = parts.strip_prefix(&["var"]).filter(|rest| rest.first() == Some(&"run")).unwrap_or(&parts);
    let length = parts.iter().map(|part| part.len() + 1).sum();
    let mut path = String::with_capacity(std::cmp::max(length, 1));
    for part in parts {
        path.push('/');
        path.push_str(part);
    }
    if path.is_empty() { "/".to_owned() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_as_far_as_names_tell() {
        for (path, clear) in [
            ("/", "/"),
            ("//a/./b//", "/a/b"),
            ("/a/../../b", "/b"),
            ("/var/run/docker.sock", "/run/docker.sock"),
            ("/var/run", "/run"),
            ("/var/running", "/var/running"),
            ("/var/lib", "/var/lib"),
            ("volume", "volume"),
            ("../run", "../run"),
            ("", ""),
        ] {
            assert_eq!(clean(path), clear, "{path}");
        }
    }

    #[test]
    fn a_bind_mount_is_one_by_type_or_by_option() {
        let mount = |text: &str| Mount::from(serde_json::from_str::<Written>(text).unwrap());
        assert!(mount(r#"{"destination":"/a","type":"bind","source":"/b"}"#).bind);
        let by_option = mount(r#"{"destination":"/a","type":"none","source":"/b","options":["rbind","ro"]}"#);
        assert!(by_option.bind && by_option.read_only);
        let other = mount(r#"{"destination":"/tmp/","type":"tmpfs","source":null,"options":null}"#);
        assert!(!other.bind && !other.read_only && other.destination == "/tmp" && other.source.is_empty());
    }
}
