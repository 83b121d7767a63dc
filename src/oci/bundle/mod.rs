//! What we need of a bundle's config.json, and nothing else of it.
//!
//! The file is a hint (DESIGN 6): it may be missing, and the runtime may use another than lies there now. What it says
//! can make us stricter, never laxer.

mod devices;
mod mounts;
mod seccomp;

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::LinuxNamespaceType;
use serde::Deserialize;

pub use devices::Devices;
pub use mounts::Mount;
pub use seccomp::{Passage, Seccomp};

use super::json;
use crate::error::{Cause, Failure};

/// Longest config.json in bytes. Engines write some 20 KB.
pub const MAX_BUNDLE: usize = 8 << 20;

/// The parts of a config.json that matter to a container's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// The file, for messages.
    pub file: String,
    /// `linux.namespaces` has a network namespace; `None` means the container stays in the runtime's.
    pub network: Option<NetworkNamespace>,
    /// `linux.namespaces` has a user namespace.
    pub user_namespace: bool,
    /// `linux.sysctl`, as written: the runtime sets these itself, and runc does so after our hook.
    pub sysctls: BTreeMap<String, String>,
    /// `annotations`; `None` where there is no such key.
    pub annotations: Option<BTreeMap<String, String>>,
    /// `linux.namespaces` has a process namespace; `None` means the container sees the runtime's processes.
    pub pid: Option<PidNamespace>,
    /// `mounts`.
    pub mounts: Vec<Mount>,
    /// The devices it can open.
    pub devices: Devices,
    /// `linux.seccomp`.
    pub seccomp: Option<Seccomp>,
    /// Whether `linux.readonlyPaths` or `linux.maskedPaths` keep /proc/sys from being written.
    pub holds_proc_sys: bool,
    /// `process.noNewPrivileges`: nothing that is executed gains what its caller has not.
    pub no_new_privileges: bool,
    capabilities: Capabilities,
}

/// Where the container's process namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidNamespace {
    /// The runtime makes it.
    New,
    /// It is there already, and others are in it.
    Path(PathBuf),
}

/// Where the container's network namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// The runtime makes it.
    New,
    /// It is there already.
    Path(PathBuf),
}

#[derive(Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "json::strings")]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    process: Option<Process>,
    #[serde(default)]
    mounts: Option<Vec<mounts::Written>>,
    #[serde(default)]
    linux: Option<Linux>,
}

#[derive(Default, Deserialize)]
struct Process {
    #[serde(default)]
    capabilities: Option<Capabilities>,
    #[serde(default, rename = "noNewPrivileges")]
    no_new_privileges: Option<bool>,
}

/// Names rather than `oci_spec::runtime::Capability`: a name that this program's list lacks must not make the file
/// unreadable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Capabilities {
    #[serde(default)]
    bounding: Option<Vec<String>>,
    #[serde(default)]
    effective: Option<Vec<String>>,
    #[serde(default)]
    permitted: Option<Vec<String>>,
    #[serde(default)]
    inheritable: Option<Vec<String>>,
    #[serde(default)]
    ambient: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Option<Vec<Namespace>>,
    #[serde(default, deserialize_with = "json::strings")]
    sysctl: Option<BTreeMap<String, String>>,
    #[serde(default)]
    devices: Option<Vec<devices::Node>>,
    #[serde(default)]
    resources: Option<Resources>,
    #[serde(default)]
    seccomp: Option<seccomp::Written>,
    #[serde(default, rename = "readonlyPaths")]
    readonly_paths: Option<Vec<String>>,
    #[serde(default, rename = "maskedPaths")]
    masked_paths: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    devices: Option<Vec<devices::Rule>>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: Option<String>,
}

impl Bundle {
    /// Reads `bytes`, the content of `file`.
    ///
    /// # Errors
    /// [`Cause::Bundle`] where it is not JSON, or what we need of it is of another type; with line and column.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Bundle, Failure> {
        let fail = |problem: String| Failure::new("read the bundle", Cause::Bundle { file: file.to_owned(), problem });
        if bytes.len() > MAX_BUNDLE {
            return Err(fail(format!("it is longer than {MAX_BUNDLE} bytes (MAX_BUNDLE)")));
        }
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        // A derived reader takes an array for an object whose fields come in order.
        if bytes.trim_ascii_start().first().is_some_and(|byte| *byte != b'{') {
            return Err(fail("expected a JSON object".to_owned()));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(|error| fail(json::problem(&error)))?;
        let process = document.process.unwrap_or_default();
        let mut bundle = Bundle {
            file: file.to_owned(),
            annotations: document.annotations,
            capabilities: process.capabilities.unwrap_or_default(),
            no_new_privileges: process.no_new_privileges.unwrap_or_default(),
            mounts: document.mounts.into_iter().flatten().map(Mount::from).collect(),
            ..Bundle::default()
        };
        let Some(linux) = document.linux else { return Ok(bundle) };
        bundle.sysctls = linux.sysctl.unwrap_or_default();
        let rules = linux.resources.and_then(|resources| resources.devices);
        bundle.devices = Devices::new(linux.devices.unwrap_or_default(), rules.unwrap_or_default());
        bundle.seccomp = linux.seccomp.map(Seccomp::from);
        let held = [linux.readonly_paths, linux.masked_paths];
        bundle.holds_proc_sys = held.iter().flatten().flatten().any(|path| is_proc_sys(&mounts::clean(path)));
        for namespace in linux.namespaces.unwrap_or_default() {
            let path = namespace.path.filter(|path| !path.is_empty());
            match LinuxNamespaceType::try_from(namespace.kind.as_str()) {
                Ok(LinuxNamespaceType::Network) if bundle.network.is_some() => {
                    return Err(fail("linux.namespaces names two network namespaces".to_owned()));
                }
                Ok(LinuxNamespaceType::Network) => {
                    bundle.network =
                        Some(path.map_or(NetworkNamespace::New, |path| NetworkNamespace::Path(path.into())));
                }
                Ok(LinuxNamespaceType::User) => bundle.user_namespace = true,
                Ok(LinuxNamespaceType::Pid) => {
                    bundle.pid = Some(path.map_or(PidNamespace::New, |path| PidNamespace::Path(path.into())));
                }
                // Other kinds, and kinds that this program does not know, say nothing about the network.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(bundle)
    }

    /// The first set in which the container's process holds `capability`, such as `CAP_NET_ADMIN`. The bounding set
    /// counts: what it holds can be gained through a file's capabilities.
    pub fn holds_capability(&self, capability: &str) -> Option<&'static str> {
        let Capabilities { bounding, effective, permitted, inheritable, ambient } = &self.capabilities;
        // Without the prefix and in any case, as libcap's cap_from_name under crun may take it.
        let bare = |name: &str| name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("CAP_")).then_some(4);
        let wanted = &capability[bare(capability).unwrap_or(0)..];
        [
            ("effective", effective),
            ("permitted", permitted),
            ("ambient", ambient),
            ("inheritable", inheritable),
            ("bounding", bounding),
        ]
        .into_iter()
        .find(|(_, names)| {
            names.iter().flatten().any(|name| name[bare(name).unwrap_or(0)..].eq_ignore_ascii_case(wanted))
        })
        .map(|(set, _)| set)
    }

    /// The same for what can be used: under `noNewPrivileges` what stands in the bounding or the inheritable set alone
    /// cannot be gained (`cap_bprm_creds_from_file`).
    pub fn can_use_capability(&self, capability: &str) -> Option<&'static str> {
        self.holds_capability(capability)
            .filter(|set| !self.no_new_privileges || !matches!(*set, "bounding" | "inheritable"))
    }
}

/// Whether what holds `path` holds the network's sysctls.
fn is_proc_sys(path: &str) -> bool {
    matches!(path, "/proc" | "/proc/sys" | "/proc/sys/net")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Bundle {
        Bundle::parse("/b/config.json", text.as_bytes()).unwrap_or_else(|failure| panic!("{text}: {failure}"))
    }

    #[test]
    fn what_matters_is_read_and_the_rest_skipped() {
        let bundle = parse(
            r#"{"ociVersion":"1.0.2","process":{"args":["sh"],"capabilities":{"bounding":["CAP_CHOWN","CAP_NET_ADMIN"],
            "effective":["CAP_CHOWN"],"permitted":["CAP_NEW_ONE"]}},"hooks":{"createRuntime":[{"path":"/x"}]},
            "annotations":{"a":"b"},"linux":{"sysctl":{"net.ipv4.ping_group_range":"0 0"},"namespaces":[{"type":"pid"},
            {"type":"network","path":"/run/netns/x"},{"type":"user"},{"type":"novel"}],"seccomp":{"x":[1,2]}}}"#,
        );
        assert_eq!(bundle.network, Some(NetworkNamespace::Path("/run/netns/x".into())));
        assert!(bundle.user_namespace);
        assert_eq!(bundle.sysctls["net.ipv4.ping_group_range"], "0 0");
        assert_eq!(bundle.annotations.as_ref().unwrap()["a"], "b");
        assert_eq!(bundle.holds_capability("CAP_NET_ADMIN"), Some("bounding"));
        assert_eq!(bundle.holds_capability("CAP_CHOWN"), Some("effective"));
        assert_eq!(bundle.holds_capability("CAP_NET_RAW"), None);
    }

    #[test]
    fn absent_null_and_empty_parts_say_nothing() {
        for text in [
            "{}",
            r#"{"linux":null,"process":null,"annotations":null}"#,
            r#"{"linux":{},"process":{}}"#,
            r#"{"linux":{"namespaces":null,"sysctl":null},"process":{"capabilities":null}}"#,
            r#"{"linux":{"namespaces":[],"sysctl":{}},"process":{"capabilities":{"bounding":null}}}"#,
        ] {
            assert_eq!(parse(text), Bundle { file: "/b/config.json".into(), ..Bundle::default() }, "{text}");
        }
        let new = parse(r#"{"linux":{"namespaces":[{"type":"network","path":""}]}}"#);
        assert_eq!(new.network, Some(NetworkNamespace::New));
    }

    #[test]
    fn a_capability_is_found_however_it_is_spelled() {
        for name in ["CAP_NET_ADMIN", "cap_net_admin", "NET_ADMIN"] {
            let bundle = parse(&format!(r#"{{"process":{{"capabilities":{{"ambient":["{name}"]}}}}}}"#));
            assert_eq!(bundle.holds_capability("CAP_NET_ADMIN"), Some("ambient"), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place() {
        for (text, wanted) in [
            ("", "EOF"),
            ("[]", "expected a JSON object"),
            ("[{}, null, null]", "expected a JSON object"),
            ("\"x\"", "expected a JSON object"),
            ("{} {}", "trailing characters at line 1 column 4"),
            (r#"{"linux":{"sysctl":{"a":1}}}"#, "\"a\": invalid type: integer `1`, expected a string at line 1"),
            (r#"{"linux":{"sysctl":{"a":"1","a":"2"}}}"#, "the key \"a\" stands twice"),
            (r#"{"linux":{},"linux":{}}"#, "duplicate field"),
            (r#"{"annotations":{"a":null}}"#, "\"a\": invalid type"),
            (
                r#"{"linux":{"namespaces":[{"type":"network"},{"type":"network","path":"/x"}]}}"#,
                "two network namespaces",
            ),
            (r#"{"linux":{"namespaces":[{"path":"/x"}]}}"#, "missing field `type`"),
            (r#"{"process":{"capabilities":{"bounding":"CAP_NET_ADMIN"}}}"#, "invalid type"),
        ] {
            let failure = Bundle::parse("/b/config.json", text.as_bytes()).expect_err(text);
            assert_eq!(failure.exit_code(), 13);
            assert!(failure.to_string().contains(wanted), "{text}: {failure}");
        }
        for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000), " ".repeat(MAX_BUNDLE + 1)] {
            assert!(Bundle::parse("f", text.as_bytes()).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Bundle::parse("f", &bytes);
        }

        #[test]
        fn no_json_like_text_panics(text in r#"\{("(linux|process|annotations)":(\{"(sysctl|namespaces|capabilities)":[\[{]?[\]}]?\}|null|[\[{]{1,3}),?){0,4}\}?"#) {
            let _ = Bundle::parse("f", text.as_bytes());
        }
    }
}
