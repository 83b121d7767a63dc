//! What we need of a bundle's config.json, and nothing else of it.
//!
//! The file is a hint (DESIGN 6): it may be missing, and the runtime may use another than lies there now. What it says
//! can make us stricter, never laxer.

mod devices;
mod mounts;
mod seccomp;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use oci_spec::runtime::LinuxNamespaceType;
use serde::Deserialize;

pub use devices::Devices;
pub use mounts::Mount;
pub use seccomp::{Passage, Seccomp};

use super::json;
use crate::error::{Cause, Failure};
use crate::sysctl::MAX_SYSCTLS;

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
    /// Whom the root user of that namespace is outside, by `linux.uidMappings`.
    pub root_outside: Option<u32>,
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
    /// There is a process, and `process.capabilities` is not written.
    unwritten: bool,
}

/// Where a capability stands that the container holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// In this set of `process.capabilities`.
    Set(&'static str),
    /// In none: `process.capabilities` is missing. runc since 1.3 then leaves a container all that it has itself (`capabilities.New`),
    /// runc before and crun leave it none.
    Unwritten,
}

impl Holding {
    /// Its place in config.json.
    pub fn place(self) -> String {
        match self {
            Holding::Set(set) => format!("process.capabilities.{set}"),
            Holding::Unwritten => "process.capabilities".to_owned(),
        }
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holding::Set(set) => write!(f, "{set} set"),
            Holding::Unwritten => {
                f.write_str("unwritten set (no process.capabilities, which since runc 1.3 means all)")
            }
        }
    }
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
    #[serde(default, rename = "uidMappings")]
    uid_mappings: Option<Vec<Mapping>>,
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
struct Mapping {
    #[serde(rename = "containerID")]
    inside: u32,
    #[serde(rename = "hostID")]
    outside: u32,
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
        // Without a process there is nothing that could hold any.
        let unwritten = document.process.as_ref().is_some_and(|process| process.capabilities.is_none());
        let process = document.process.unwrap_or_default();
        let mut bundle = Bundle {
            file: file.to_owned(),
            annotations: document.annotations,
            capabilities: process.capabilities.unwrap_or_default(),
            unwritten,
            no_new_privileges: process.no_new_privileges.unwrap_or_default(),
            mounts: document.mounts.into_iter().flatten().map(Mount::from).collect(),
            ..Bundle::default()
        };
        let Some(linux) = document.linux else { return Ok(bundle) };
        bundle.sysctls = linux.sysctl.unwrap_or_default();
        if bundle.sysctls.len() > MAX_SYSCTLS {
            return Err(fail(format!("linux.sysctl has more than {MAX_SYSCTLS} entries (MAX_SYSCTLS)")));
        }
        let mappings = linux.uid_mappings.unwrap_or_default();
        bundle.root_outside = mappings.iter().find(|mapping| mapping.inside == 0).map(|mapping| mapping.outside);
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

    /// The first set in which the container's process holds `capability`, such as `CAP_NET_ADMIN`.
    ///
    /// All five count, the bounding set most: measured with runc and crun, a container whose bounding set has the
    /// capability gains it by executing a file that carries it (`noNewPrivileges` aside), and one whose bounding set
    /// lacks it never holds it over its network namespace. That is so with a user namespace of its own as well: exec as
    /// root there gives what the bounding set has (`cap_bprm_creds_from_file`), a nested user namespace gives
    /// capabilities over namespaces made below it only (`cap_capable`), and its own cannot be entered again
    /// (`userns_install`). So a user namespace is no reason by itself.
    ///
    /// The waiting process's own sets are no second source: at createRuntime it is still the runtime's, which drops
    /// capabilities last, so /proc/PID/status tells of a full bounding set whatever the container is to get.
    pub fn holds_capability(&self, capability: &str) -> Option<Holding> {
        let Capabilities { bounding, effective, permitted, inheritable, ambient } = &self.capabilities;
        let wanted = number(capability);
        if self.unwritten {
            return wanted.map(|_| Holding::Unwritten);
        }
        [
            ("effective", effective),
            ("permitted", permitted),
            ("ambient", ambient),
            ("inheritable", inheritable),
            ("bounding", bounding),
        ]
        .into_iter()
        .find(|(_, names)| wanted.is_some() && names.iter().flatten().any(|name| number(name) == wanted))
        .map(|(set, _)| Holding::Set(set))
    }

    /// The same for what can be used: under `noNewPrivileges` what stands in the bounding or the inheritable set alone
    /// cannot be gained (`cap_bprm_creds_from_file`).
    pub fn can_use_capability(&self, capability: &str) -> Option<Holding> {
        self.holds_capability(capability)
            .filter(|held| !self.no_new_privileges || !matches!(*held, Holding::Set("bounding" | "inheritable")))
    }
}

/// Whether what holds `path` holds the network's sysctls.
fn is_proc_sys(path: &str) -> bool {
    matches!(path, "/proc" | "/proc/sys" | "/proc/sys/net")
}

/// The capabilities by number, without their prefix (include/uapi/linux/capability.h).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability as the most lenient runtime understands its name.
///
/// runc knows `CAP_NET_ADMIN` alone and passes over the rest. crun hands names to libcap (`cap_from_name`), which takes any
/// case, numbers as strtoul(3) reads them (`12`, `014`, `0xc`), and stops at the first character of another kind: under
/// crun 1.8 `"12"` and `"cap_net_admin,"` are CAP_NET_ADMIN. Without the prefix neither takes it; it counts here all the
/// same. `ALL` is nothing to either.
fn number(name: &str) -> Option<usize> {
    let name = name.trim_start();
    let word = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?.to_ascii_uppercase();
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return strtoul(&word);
    }
    let bare = word.strip_prefix("CAP_").unwrap_or(&word);
    CAPABILITIES.iter().position(|known| *known == bare)
}

/// strtoul(3) with base 0: the prefix says the base, and what follows the last digit is passed over.
fn strtoul(word: &str) -> Option<usize> {
    let (base, digits) = match word.strip_prefix("0X") {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, rest),
        Some(_) => (10, "0"),
        None if word.starts_with('0') => (8, word),
        None => (10, word),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    usize::from_str_radix(&digits[..end], base).ok()
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
            {"type":"network","path":"/run/netns/x"},{"type":"user"},{"type":"novel"}],"seccomp":{"x":[1,2]},
            "uidMappings":[{"containerID":1,"hostID":7,"size":1},{"containerID":0,"hostID":200000,"size":1}]}}"#,
        );
        assert_eq!(bundle.root_outside, Some(200_000));
        assert_eq!(bundle.network, Some(NetworkNamespace::Path("/run/netns/x".into())));
        assert!(bundle.user_namespace);
        assert_eq!(bundle.sysctls["net.ipv4.ping_group_range"], "0 0");
        assert_eq!(bundle.annotations.as_ref().unwrap()["a"], "b");
        assert_eq!(bundle.holds_capability("CAP_NET_ADMIN"), Some(Holding::Set("bounding")));
        assert_eq!(bundle.holds_capability("CAP_CHOWN"), Some(Holding::Set("effective")));
        assert_eq!(bundle.holds_capability("CAP_NET_RAW"), None);
    }

    #[test]
    fn absent_null_and_empty_parts_say_nothing() {
        for text in [
            "{}",
            r#"{"linux":null,"process":null,"annotations":null}"#,
            r#"{"linux":{"namespaces":null,"sysctl":null},"process":{"capabilities":{}}}"#,
            r#"{"linux":{"namespaces":[],"sysctl":{}},"process":{"capabilities":{"bounding":null}}}"#,
        ] {
            assert_eq!(parse(text), Bundle { file: "/b/config.json".into(), ..Bundle::default() }, "{text}");
        }
        // But for capabilities that nobody has written.
        for text in [r#"{"process":{}}"#, r#"{"process":{"capabilities":null}}"#] {
            let bundle = parse(text);
            assert_eq!(bundle.holds_capability("CAP_NET_ADMIN"), Some(Holding::Unwritten), "{text}");
            assert_eq!(bundle.can_use_capability("CAP_NET_RAW"), Some(Holding::Unwritten), "{text}");
        }
        let new = parse(r#"{"linux":{"namespaces":[{"type":"network","path":""}]}}"#);
        assert_eq!(new.network, Some(NetworkNamespace::New));
    }

    #[test]
    fn a_capability_is_found_in_every_set_however_it_is_spelled() {
        let held = |set: &str, name: &str| {
            let bundle = parse(&format!(r#"{{"process":{{"capabilities":{{"{set}":["CAP_CHOWN","{name}"]}}}}}}"#));
            bundle.holds_capability("CAP_NET_ADMIN")
        };
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            assert_eq!(held(set, "CAP_NET_ADMIN"), Some(Holding::Set(set)));
            assert_eq!(held(set, "CAP_NET_RAW"), None);
        }
        // What crun 1.8 makes CAP_NET_ADMIN of, and what only looks like it.
        for name in [
            "cap_net_admin",
            "NET_ADMIN",
            "Cap_Net_Admin",
            "CAP_NET_ADMIN ",
            " CAP_NET_ADMIN",
            "CAP_NET_ADMIN,",
            "CAP_NET_ADMIN=",
            "12",
            "12 ",
            "12x",
            "014",
            "0xc",
            "0x0C",
            "0000000000014",
        ] {
            assert_eq!(held("ambient", name), Some(Holding::Set("ambient")), "{name:?}");
        }
        for name in [
            "ALL",
            "CAP_ALL",
            "",
            " ",
            "cap_12",
            "+12",
            "-12",
            "13",
            "0x",
            "0x12",
            "012",
            "120",
            "CAP_NET_ADMIN2",
            "CAP_NET_ADMI",
            "CAP_CAP_NET_ADMIN",
            "99999999999999999999999999",
            "\u{131}12",
        ] {
            assert_eq!(held("ambient", name), None, "{name:?}");
        }
    }

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        for capability in caps::all() {
            assert_eq!(number(&capability.to_string()), Some(usize::from(capability.index())), "{capability}");
        }
        assert_eq!(CAPABILITIES.len(), caps::all().len());
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
