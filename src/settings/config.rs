//! The configuration file: what the admin wants for every container of this host.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::document::{self, Fields, MAX_FINDINGS, Place, Report, Value, shown};
use crate::error::{Cause, Failure, Finding};

use crate::oci::{Annotation, Mode, OnDenied, Sourced};
use crate::policy::group::Group;
use crate::policy::list::{List, Problem};
use crate::sysctl::{AllowList, Devconf, Ipv6, Key, MAX_SYSCTLS, Pattern, Setting, disagreements, ipv6};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/netlatch/config.yaml";

/// What happens to a container that holds `CAP_NET_ADMIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetAdmin {
    /// It does not start: it could remove every rule.
    Refuse,
    /// It starts with the same rules at the host's end of its links, or not at all.
    HostSide,
    /// It starts.
    Allow,
}

/// What happens to a container on the host's network that asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostNetwork {
    /// It starts, untouched, with a line in the log.
    Skip,
    /// It does not start.
    Refuse,
}

/// What network policies say of ICMP, which their API leaves undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyIcmp {
    /// A rule without ports lets it through to and from its peers, one with ports does not. As Calico and Cilium read it.
    Rules,
    /// It passes where no cluster policy denies it.
    Accept,
}

/// What happens to a container that may hold `CAP_NET_RAW`, and to the frames that such a container can send past the
/// hooks of the IP stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetRaw {
    /// It starts, and only what was routed leaves it: [`build::guard`](crate::nft::build::guard()).
    Guard,
    /// The same for everybody, and a container that may hold it does not start.
    Refuse,
    /// Nothing is guarded: packet sockets work, also those of a DHCP client that an engine runs in the namespace.
    Allow,
}

/// What happens to IPv6 router advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouterAdvertisements {
    /// They are dropped: whoever shares the link can send them (CVE-2020-10749, CVE-2020-13401).
    Drop,
    /// They pass.
    Accept,
}

/// The configuration file. A field that is not written is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `egress`
    pub egress: Option<Sourced<List>>,
    /// `ingress`
    pub ingress: Option<Sourced<List>>,
    /// `ipv6`
    pub ipv6: Option<Sourced<Ipv6>>,
    /// `devconf`
    pub devconf: Option<Sourced<Devconf>>,
    /// `mode`
    pub mode: Option<Sourced<Mode>>,
    /// `on-denied`
    pub on_denied: Option<Sourced<OnDenied>>,
    /// `sysctl`, at most one value for a file.
    pub sysctls: Vec<Setting>,
    /// `allow-sysctls`
    pub allow_sysctls: Option<Sourced<AllowList>>,
    /// `allow-annotations`
    pub allow_annotations: Option<Sourced<BTreeSet<Annotation>>>,
    /// `always-denied`
    pub always_denied: Option<Sourced<BTreeSet<Group>>>,
    /// `net-admin`
    pub net_admin: Option<Sourced<NetAdmin>>,
    /// `net-raw`
    pub net_raw: Option<Sourced<NetRaw>>,
    /// `host-network`
    pub host_network: Option<Sourced<HostNetwork>>,
    /// `router-advertisements`
    pub router_advertisements: Option<Sourced<RouterAdvertisements>>,
    /// `policy-icmp`
    pub policy_icmp: Option<Sourced<PolicyIcmp>>,
    /// `policies`, an absolute path.
    pub policies: Option<Sourced<PathBuf>>,
}

impl Config {
    /// Reads `bytes`, the content of the file `name`. An empty file is a configuration that says nothing.
    ///
    /// # Errors
    /// [`Cause::Config`] with every problem.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Config, Failure> {
        match check(name, bytes) {
            (Some(config), _, _) => Ok(config),
            (None, errors, _) => Err(Failure::new("follow the configuration", Cause::Config(errors))),
        }
    }

    /// Reads one document. Problems go to the place's report, and what was read is then good for nothing else than
    /// finding more; `None` where the document is no configuration at all.
    pub fn read(root: &Place<'_>) -> Option<Config> {
        let mut fields = root.fields()?;
        if root.node().is_manifest() {
            root.refuse("this is a manifest (apiVersion, kind), not a configuration; put it into the policies folder");
            return None;
        }
        let config = Config {
            egress: list(&mut fields, "egress"),
            ingress: list(&mut fields, "ingress"),
            ipv6: word(&mut fields, "ipv6", &Ipv6::ALL.map(|mode| (mode.name(), mode))),
            devconf: word(&mut fields, "devconf", &Devconf::ALL.map(|mode| (mode.name(), mode))),
            mode: word(&mut fields, "mode", &Mode::WORDS),
            on_denied: word(&mut fields, "on-denied", &OnDenied::WORDS),
            sysctls: fields.optional("sysctl").map(|place| sysctls(&place)).unwrap_or_default(),
            allow_sysctls: words(&mut fields, "allow-sysctls", |place| {
                let text = place.string()?;
                Pattern::parse(text).map_err(|error| place.refuse(error.to_string())).ok()
            })
            .map(|patterns| Sourced::new(AllowList::new(patterns.value), patterns.origin)),
            allow_annotations: set(&mut fields, "allow-annotations", &Annotation::ALL),
            always_denied: set(&mut fields, "always-denied", &Group::ALL.map(|group| (group.name(), group))),
            net_admin: word(
                &mut fields,
                "net-admin",
                &[("refuse", NetAdmin::Refuse), ("host-side", NetAdmin::HostSide), ("allow", NetAdmin::Allow)],
            ),
            net_raw: word(
                &mut fields,
                "net-raw",
                &[("guard", NetRaw::Guard), ("refuse", NetRaw::Refuse), ("allow", NetRaw::Allow)],
            ),
            host_network: word(
                &mut fields,
                "host-network",
                &[("skip", HostNetwork::Skip), ("refuse", HostNetwork::Refuse)],
            ),
            router_advertisements: word(
                &mut fields,
                "router-advertisements",
                &[("drop", RouterAdvertisements::Drop), ("accept", RouterAdvertisements::Accept)],
            ),
            policy_icmp: word(
                &mut fields,
                "policy-icmp",
                &[("rules", PolicyIcmp::Rules), ("accept", PolicyIcmp::Accept)],
            ),
            policies: fields.optional("policies").and_then(|place| folder(&place)),
        };
        if let Some(mode) = &config.ipv6
            && let Err(failure) = disagreements(&ipv6::steps(mode.value, &mode.origin), &config.sysctls)
            && let Some(place) = fields.optional("sysctl")
        {
            place.refuse(failure.cause.to_string());
        }
        if let Some(place) = fields.optional("mode")
            && config.mode.as_ref().is_some_and(|mode| mode.value == Mode::Audit)
        {
            place.warn("in audit mode nothing that this file or a policy denies is dropped");
        }
        fields.finish();
        Some(config)
    }
}

/// What `netlatch check` says of a configuration: the configuration where there is no error, errors, warnings.
pub fn check(name: &str, bytes: &[u8]) -> (Option<Config>, Vec<Finding>, Vec<Finding>) {
    let mut errors = Vec::new();
    let roots = document::parse(name, bytes, &mut errors);
    let report = Report::new(name);
    let mut config = Config::default();
    for (index, root) in roots.iter().enumerate() {
        let place = report.read(root);
        if index > 0 {
            place.refuse("a configuration is one document, and this is another");
        } else if let Some(read) = Config::read(&place) {
            config = read;
        }
    }
    let (found, warnings) = report.into_parts();
    errors.extend(found);
    errors.sort_by_key(|finding| finding.position);
    // Each of the two kept to the limit.
    errors.truncate(MAX_FINDINGS);
    (errors.is_empty().then_some(config), errors, warnings)
}

fn word<T: Copy>(fields: &mut Fields<'_>, name: &'static str, words: &[(&str, T)]) -> Option<Sourced<T>> {
    let place = fields.optional(name)?;
    Some(Sourced::new(place.word(words)?, place.origin()))
}

/// A list of what `read` takes.
fn words<'a, T>(
    fields: &mut Fields<'a>,
    name: &'static str,
    read: impl Fn(&Place<'a>) -> Option<T>,
) -> Option<Sourced<Vec<T>>> {
    let place = fields.optional(name)?;
    let items = place.items()?.filter_map(|item| read(&item)).collect();
    Some(Sourced::new(items, place.origin()))
}

fn set<T: Copy + Ord>(
    fields: &mut Fields<'_>,
    name: &'static str,
    known: &[(&str, T)],
) -> Option<Sourced<BTreeSet<T>>> {
    let place = fields.optional(name)?;
    let mut set = BTreeSet::new();
    for item in place.items()? {
        if item.word(known).is_some_and(|value| !set.insert(value)) {
            item.refuse("stands twice");
        }
    }
    Some(Sourced::new(set, place.origin()))
}

/// A list in one string, or its entries apart.
fn list(fields: &mut Fields<'_>, name: &'static str) -> Option<Sourced<List>> {
    let place = fields.optional(name)?;
    let parsed = match &place.node().value {
        Value::Seq(_) => return entries(&place),
        Value::Str { .. } => List::parse(place.string()?, &place.origin()),
        Value::Null | Value::Bool(_) | Value::Int { .. } | Value::Float { .. } | Value::Map(_) => {
            let found = document::describe(&place.node().value);
            place.refuse(format!("expected a list of entries, or none, found {found}"));
            return None;
        }
    };
    let refuse = |problems: Vec<Problem>| problems.iter().for_each(|problem| place.refuse(problem.to_string()));
    Some(Sourced::new(parsed.map_err(refuse).ok()?, place.origin()))
}

fn entries(place: &Place<'_>) -> Option<Sourced<List>> {
    let written = place.items()?.len();
    let entries = place.strings()?;
    // An item that is no string is reported; a list without it is not the list that was meant.
    let whole = entries.len() == written;
    if !whole && entries.is_empty() {
        return None;
    }
    match List::parse_apart(entries.iter().map(|(_, line, text)| (*text, *line)), &place.origin()) {
        Ok(list) => whole.then(|| Sourced::new(list, place.origin())),
        Err(problems) => {
            for problem in problems {
                let item = problem.index.and_then(|index| place.item(entries.get(index)?.0));
                item.as_ref().unwrap_or(place).refuse(problem.to_string());
            }
            None
        }
    }
}

fn sysctls(place: &Place<'_>) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    for (key, item) in place.entries().into_iter().flatten() {
        if settings.len() >= MAX_SYSCTLS {
            item.refuse(format!("there are more than {MAX_SYSCTLS} sysctls up to here (MAX_SYSCTLS)"));
            break;
        }
        let parsed = Key::parse(&key.text).map_err(|error| item.refuse(error.to_string()));
        // The number itself would lose how it was written: 0x10 must not silently become 16.
        let value = match &item.node().value {
            Value::Int { value, text } if value.to_string() == *text => Some(text.as_str()),
            Value::Null
            | Value::Bool(_)
            | Value::Int { .. }
            | Value::Float { .. }
            | Value::Str { .. }
            | Value::Seq(_)
            | Value::Map(_) => item.string(),
        };
        let (Ok(key), Some(value)) = (parsed, value) else { continue };
        match Setting::new(key, value, item.origin()) {
            Err(error) => item.refuse(error.to_string()),
            Ok(setting) => match settings.iter().find(|other| other.key == setting.key) {
                Some(other) => item.refuse(format!("is the same file as {}", other.origin)),
                None => settings.push(setting),
            },
        }
    }
    settings
}

fn folder(place: &Place<'_>) -> Option<Sourced<PathBuf>> {
    let text = place.string()?;
    if !text.starts_with('/') || text.contains('\0') {
        place.refuse(format!("expected an absolute path, found {}", shown(text)));
        return None;
    }
    Some(Sourced::new(PathBuf::from(text), place.origin()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let (config, errors, _) = check("c.yaml", text.as_bytes());
        assert_eq!(config.is_none(), !errors.is_empty());
        crate::schema::tests::config_is_judged(text, config.is_some());
        errors.iter().map(ToString::to_string).collect()
    }

    fn good(text: &str) -> Config {
        crate::schema::tests::config_is_judged(text, true);
        Config::parse("c.yaml", text.as_bytes()).unwrap_or_else(|failure| panic!("{failure}"))
    }

    #[test]
    fn every_field_is_read_with_its_origin() {
        let config = good(
            r#"
egress:
- 10.0.0.0/8
- "*:443"
- "!192.0.2.0/24"
ingress: none
ipv6: loopback-only
devconf: host
mode: enforce
on-denied: drop
sysctl:
  net.ipv4.tcp_fin_timeout: 30
  net.ipv4.tcp_rmem: 4096 87380 6291456
  net.ipv4.conf.eth0.100.rp_filter: "1"
allow-sysctls: [net.core.somaxconn, "net.ipv4.tcp_*"]
allow-annotations: [egress, sysctl]
always-denied: [metadata, private]
net-admin: allow
net-raw: refuse
host-network: refuse
router-advertisements: accept
policies: /srv/policies
"#,
        );
        let egress = config.egress.unwrap();
        assert_eq!(egress.value.entries().len(), 3);
        assert_eq!(egress.value.entries().nth(2).unwrap().origin().to_string(), "c.yaml:5 egress[2]");
        assert_eq!(egress.origin.to_string(), "c.yaml:3 egress");
        assert_eq!(config.ingress.unwrap().value, List::NONE);
        assert_eq!(config.ipv6.unwrap().value, Ipv6::LoopbackOnly);
        assert_eq!(config.devconf.unwrap().value, Devconf::Host);
        assert_eq!(config.mode.unwrap().value, Mode::Enforce);
        assert_eq!(config.on_denied.unwrap().value, OnDenied::Drop);
        let sysctls: Vec<_> = config.sysctls.iter().map(|s| format!("{}={}", s.key, s.value)).collect();
        assert_eq!(
            sysctls,
            [
                "net.ipv4.tcp_fin_timeout=30",
                "net.ipv4.tcp_rmem=4096 87380 6291456",
                "net.ipv4.conf.eth0/100.rp_filter=1"
            ]
        );
        assert_eq!(config.sysctls[0].origin.to_string(), "c.yaml:12 sysctl[\"net.ipv4.tcp_fin_timeout\"]");
        assert!(config.allow_sysctls.unwrap().value.permits(&Key::parse("net.ipv4.tcp_rmem").unwrap()));
        assert_eq!(config.allow_annotations.unwrap().value, [Annotation::Egress, Annotation::Sysctl].into());
        assert_eq!(config.always_denied.unwrap().value, [Group::Metadata, Group::Private].into());
        assert_eq!(config.net_admin.unwrap().value, NetAdmin::Allow);
        assert_eq!(config.net_raw.unwrap().value, NetRaw::Refuse);
        assert_eq!(config.host_network.unwrap().value, HostNetwork::Refuse);
        assert_eq!(config.router_advertisements.unwrap().value, RouterAdvertisements::Accept);
        assert_eq!(config.policies.unwrap().value, PathBuf::from("/srv/policies"));
    }

    #[test]
    fn a_file_that_says_nothing_is_fine() {
        for text in ["", "# nothing\n", "---\n", "{}", "\u{feff}"] {
            assert_eq!(good(text), Config::default(), "{text:?}");
        }
        assert_eq!(good("always-denied: []").always_denied.unwrap().value, [].into());
        assert_eq!(good(r#"{"egress": "10.0.0.0/8, *:443"}"#).egress.unwrap().value.entries().len(), 2);
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        assert_eq!(
            errors(
                "egres: none\nipv6: off\ningress:\n- 10.0.0.1/8\n- 53\n- fine?\nmode: adit\nsysctl:\n  kernel.x: 1\n  net.ipv4.tcp_rmem: 0x10\n  net.ipv4.ip_forward: true\nalways-denied: [metadata, metadata, \"@private\"]\nallow-annotations: [io.netlatch.egress]\npolicies: policies\non-denied:\n"
            ),
            [
                "c.yaml:1:1: unknown field \"egres\"; did you mean egress?",
                "c.yaml:2:7: ipv6: expected a string, and off is a boolean to some YAML readers; quote it",
                "c.yaml:4:3: ingress[0]: entry \"10.0.0.1/8\": \"10.0.0.1/8\" has host bits set behind the prefix; the block would be 10.0.0.0/8",
                "c.yaml:5:3: ingress[1]: expected a string, found the integer 53; quote it",
                "c.yaml:6:3: ingress[2]: entry \"fine?\": expected an IP address or a block such as 10.0.0.0/8, found \"fine?\"",
                "c.yaml:7:7: mode: expected one of enforce, audit, found \"adit\"; did you mean audit?",
                "c.yaml:9:13: sysctl[\"kernel.x\"]: `kernel.x` is not below `net.`; only network sysctls belong to a network namespace",
                "c.yaml:10:22: sysctl[\"net.ipv4.tcp_rmem\"]: expected a string, found the integer 0x10; quote it",
                "c.yaml:11:24: sysctl[\"net.ipv4.ip_forward\"]: expected a string, found the boolean true; quote it",
                "c.yaml:12:27: always-denied[1]: stands twice",
                "c.yaml:12:37: always-denied[2]: expected one of internet, private, host, metadata, found \"@private\"; did you mean private?",
                "c.yaml:13:21: allow-annotations[0]: expected one of egress, ingress, ipv6, devconf, sysctl, mode, on-denied, namespace, labels, ports, found \"io.netlatch.egress\"",
                "c.yaml:14:11: policies: expected an absolute path, found \"policies\"",
                "c.yaml:15:10: on-denied: expected a string, found nothing (null)",
            ]
        );
    }

    #[test]
    fn what_cannot_be_a_configuration_is_refused() {
        for (text, wanted) in [
            ("[]", "expected an object, found a list"),
            ("x", "expected an object, found the string \"x\""),
            ("apiVersion: v1\nkind: Pod\n", "this is a manifest"),
            ("mode: audit\n---\nmode: audit\n", "c.yaml:3:1: a configuration is one document"),
            ("egress:\n", "expected a list of entries, or none, found nothing (null)"),
            ("egress: []\n", "the list is empty"),
            ("egress: {}\n", "expected a list of entries, or none, found an object"),
            ("egress: [none, 10.0.0.0/8]\n", "c.yaml:1:10: egress[0]: entry \"none\": \"none\" stands alone"),
            ("egress:\n- *:443\n", "c.yaml:2:3:"),
            ("egress:\n- *:443\n", "quote a text that begins with *"),
            (
                "egress:\n- '*'\n- !192.0.2.0/24\n",
                "c.yaml:3:3: the tag \"!192.0.2.0/24\" is not supported; quote a text that begins with !",
            ),
            ("egress:\n- @internet\n", "quote a text that begins with @"),
            ("egress: [10.0.0.1:12:30]\n", "entry"),
            ("sysctl: {net.ipv4.tcp_rmem: 1, net/ipv4/tcp_rmem: 2}", "is the same file as c.yaml:1 sysctl"),
            ("sysctl: [net.ipv4.tcp_rmem]", "expected an object"),
            ("allow-sysctls: [kernel.*]", "allow-sysctls[0]"),
            ("allow-sysctls: net.core.*", "expected a list"),
            (
                "ipv6: disable\nsysctl:\n  net.ipv6.conf.all.disable_ipv6: 0\n",
                "c.yaml:3:3: sysctl: net.ipv6.conf.default.disable_ipv6 is 1",
            ),
            ("policies: \"/a\\0b\"", "expected an absolute path"),
        ] {
            let found = errors(text);
            assert!(found.len() == 1 && found[0].contains(wanted), "{text}: {found:?}");
        }
    }

    #[test]
    fn audit_mode_is_worth_a_warning() {
        let (config, _, warnings) = check("c.yaml", b"mode: audit");
        assert!(config.is_some());
        assert!(warnings[0].to_string().starts_with("c.yaml:1:7: mode: in audit mode nothing"), "{warnings:?}");
        assert_eq!(check("c.yaml", b"mode: enforce").2, []);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            errors(&String::from_utf8_lossy(&bytes));
            check("c", &bytes);
        }

        #[test]
        fn no_yaml_like_text_panics(
            text in "((egress|ingress|sysctl|allow-sysctls|always-denied|policies|mode|ipv6):( |\n- |\n  )[-?:,\\[\\]{}#&*!|>'\"%@a0./~ \n]{0,12}\n){0,5}"
        ) {
            errors(&text);
        }
    }
}
