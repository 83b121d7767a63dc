//! What a container asks for: the annotations under `io.netlatch.`, and the identity that engines write.
//!
//! Strict: a key under the prefix that is not known is an error, for a typo must not start an unprotected container.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::bundle::Bundle;
use super::request::{Mode, OnDenied, Sourced};
use crate::document::{MAX_FINDINGS, clipped, shown, suggest};
use crate::error::{Cause, Failure, Finding};
use crate::net::Origin;
use crate::policy::list::List;
use crate::policy::names::{NamedPort, check_namespace, parse_labels, parse_ports};
use crate::sysctl::{Devconf, Ipv6, Key, MAX_SYSCTLS, Setting};

/// What every key of ours begins with.
pub const PREFIX: &str = "io.netlatch.";
/// Longest list in bytes: room for the entries that a list may have.
pub const MAX_LIST: usize = 4 << 20;
/// Longest other value in bytes.
pub const MAX_VALUE: usize = 64 << 10;

/// A kind of annotation, which the admin may permit or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Annotation {
    /// `egress`
    Egress,
    /// `ingress`
    Ingress,
    /// `ipv6`
    Ipv6,
    /// `devconf`
    Devconf,
    /// `sysctl.<name>`
    Sysctl,
    /// `mode`
    Mode,
    /// `on-denied`
    OnDenied,
    /// `namespace`
    Namespace,
    /// `labels`
    Labels,
    /// `ports`
    Ports,
}

impl Annotation {
    /// Every kind with its key behind the prefix.
    pub const ALL: [(&'static str, Annotation); 10] = [
        ("egress", Annotation::Egress),
        ("ingress", Annotation::Ingress),
        ("ipv6", Annotation::Ipv6),
        ("devconf", Annotation::Devconf),
        ("sysctl", Annotation::Sysctl),
        ("mode", Annotation::Mode),
        ("on-denied", Annotation::OnDenied),
        ("namespace", Annotation::Namespace),
        ("labels", Annotation::Labels),
        ("ports", Annotation::Ports),
    ];
}

/// What a container's annotations ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// `egress`
    pub egress: Option<Sourced<List>>,
    /// `ingress`
    pub ingress: Option<Sourced<List>>,
    /// `ipv6`
    pub ipv6: Option<Sourced<Ipv6>>,
    /// `devconf`
    pub devconf: Option<Sourced<Devconf>>,
    /// `sysctl.<name>`, at most one value for a file.
    pub sysctls: Vec<Setting>,
    /// `mode`
    pub mode: Option<Sourced<Mode>>,
    /// `on-denied`
    pub on_denied: Option<Sourced<OnDenied>>,
    /// `namespace`, or what the engine says; where both speak they agree.
    pub namespace: Option<Sourced<String>>,
    /// The pod's name, where the engine says it.
    pub pod: Option<Sourced<String>>,
    /// The pod's labels as the engine says them, else `labels`; where both speak they agree.
    pub labels: Option<Sourced<BTreeMap<String, String>>>,
    /// `ports` and those the engine says, by name.
    pub ports: Option<Sourced<Vec<NamedPort>>>,
    /// Why `labels` may not be the pod's: its engine writes them, and they could not be had.
    pub labels_unknown: Option<Failure>,
    /// Every key of ours with its kind, in order. What engines write is not among them.
    pub given: Vec<(String, Annotation)>,
}

impl Requests {
    /// Reads what concerns us of `annotations`, a container's without a pod or whose sandbox is not there.
    ///
    /// # Errors
    /// [`Cause::Annotation`] with every problem.
    pub fn parse(annotations: &BTreeMap<String, String>) -> Result<Requests, Failure> {
        Requests::parse_in_pod(annotations, None)
    }

    /// Reads what concerns us of `annotations`. `sandbox` is what [`sandbox_file`](super::sandbox_file) holds.
    ///
    /// # Errors
    /// [`Cause::Annotation`] with every problem.
    pub fn parse_in_pod(annotations: &BTreeMap<String, String>, sandbox: Option<&Bundle>) -> Result<Requests, Failure> {
        let mut reader = Reader::default();
        for (key, value) in annotations {
            reader.read(key, value);
        }
        reader.read_pod(annotations, sandbox);
        if reader.findings.is_empty() {
            return Ok(reader.requests);
        }
        Err(Failure::new("follow the container's annotations", Cause::Annotation(reader.findings)))
    }
}

/// The part of `key` behind our prefix. `Err` where it looks like ours and is not: another case, `io.netlatch/egress`.
fn ours(key: &str) -> Option<Result<&str, ()>> {
    let stem = PREFIX.trim_end_matches('.');
    let head = key.get(..stem.len()).filter(|head| head.eq_ignore_ascii_case(stem))?;
    let rest = &key[stem.len()..];
    match rest.strip_prefix('.') {
        Some(name) if head == stem => Some(Ok(name)),
        _ if rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-') => None,
        _ => Some(Err(())),
    }
}

/// What was read, and what is wrong with it.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) requests: Requests,
    pub(super) findings: Vec<Finding>,
    too_many_sysctls: bool,
}

impl Reader {
    pub(super) fn refuse(&mut self, key: &str, message: impl Display) {
        if self.findings.len() >= MAX_FINDINGS {
            return;
        }
        // A key is as long as its author likes, and the message is one line.
        let key = if key.len() > 128 || key.contains(|c: char| c.is_control()) { shown(key) } else { key.to_owned() };
        self.findings.push(Finding {
            file: format!("annotation {key}"),
            position: None,
            at: String::new(),
            message: clipped(message.to_string()),
        });
    }

    pub(super) fn keep<T, E: Display>(&mut self, key: &str, parsed: Result<T, E>) -> Option<Sourced<T>> {
        match parsed {
            Ok(value) => Some(Sourced::new(value, Origin::Annotation { key: key.to_owned() })),
            Err(problem) => {
                self.refuse(key, problem);
                None
            }
        }
    }

    fn keep_all<T, E: Display>(&mut self, key: &str, parsed: Result<T, Vec<E>>) -> Option<Sourced<T>> {
        match parsed {
            Ok(value) => Some(Sourced::new(value, Origin::Annotation { key: key.to_owned() })),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.refuse(key, problem));
                None
            }
        }
    }

    pub(super) fn read(&mut self, key: &str, value: &str) {
        let name = match ours(key) {
            None => return,
            Some(Ok(name)) => name,
            Some(Err(())) => {
                let known = Annotation::ALL.iter().map(|(word, _)| *word);
                let word = key.rsplit(['.', '/']).next().and_then(|word| suggest(word, known)).unwrap_or("egress");
                return self.refuse(key, format!("our keys begin with {PREFIX}; did you mean {PREFIX}{word}?"));
            }
        };
        let sysctl = name.strip_prefix("sysctl.");
        let word = if sysctl.is_some() { "sysctl" } else { name };
        let known = Annotation::ALL
            .iter()
            .find(|(known, kind)| *known == word && (sysctl.is_some() || *kind != Annotation::Sysctl));
        let Some((_, kind)) = known else {
            let names = Annotation::ALL
                .iter()
                .map(|(word, kind)| if *kind == Annotation::Sysctl { "sysctl.<name>" } else { word });
            let message = match suggest(name, names.clone()) {
                Some(word) => format!("unknown key; did you mean {PREFIX}{word}?"),
                None => format!("unknown key; the keys are {}", names.collect::<Vec<_>>().join(", ")),
            };
            return self.refuse(key, message);
        };
        self.requests.given.push((key.to_owned(), *kind));
        let (limit, limit_name) = match kind {
            Annotation::Egress | Annotation::Ingress => (MAX_LIST, "MAX_LIST"),
            Annotation::Ipv6
            | Annotation::Devconf
            | Annotation::Sysctl
            | Annotation::Mode
            | Annotation::OnDenied
            | Annotation::Namespace
            | Annotation::Labels
            | Annotation::Ports => (MAX_VALUE, "MAX_VALUE"),
        };
        if value.len() > limit {
            return self.refuse(key, format!("the value is longer than {limit} bytes ({limit_name})"));
        }
        match kind {
            Annotation::Egress => self.requests.egress = self.keep_all(key, list(key, value)),
            Annotation::Ingress => self.requests.ingress = self.keep_all(key, list(key, value)),
            Annotation::Ipv6 => self.requests.ipv6 = self.keep(key, one_of(value, Ipv6::ALL.map(|v| (v.name(), v)))),
            Annotation::Devconf => {
                self.requests.devconf = self.keep(key, one_of(value, Devconf::ALL.map(|v| (v.name(), v))));
            }
            Annotation::Mode => self.requests.mode = self.keep(key, one_of(value, Mode::WORDS)),
            Annotation::OnDenied => self.requests.on_denied = self.keep(key, one_of(value, OnDenied::WORDS)),
            Annotation::Namespace => {
                self.requests.namespace = self.keep(key, namespace(value));
            }
            Annotation::Labels => self.requests.labels = self.keep_all(key, parse_labels(value)),
            Annotation::Ports => self.requests.ports = self.keep_all(key, parse_ports(value)),
            Annotation::Sysctl => self.sysctl(key, sysctl.unwrap_or_default(), value),
        }
    }

    fn sysctl(&mut self, key: &str, name: &str, value: &str) {
        let sysctl = match Key::parse(name) {
            Ok(sysctl) => sysctl,
            Err(error) => return self.refuse(key, error),
        };
        if self.requests.sysctls.len() >= MAX_SYSCTLS {
            // Told once; what comes behind is not looked at.
            if !std::mem::replace(&mut self.too_many_sysctls, true) {
                self.refuse(key, format!("there are more than {MAX_SYSCTLS} sysctls (MAX_SYSCTLS)"));
            }
            return;
        }
        if let Some(other) = self.requests.sysctls.iter().find(|setting| setting.key == sysctl) {
            let message = format!("is the same file as {}", other.origin);
            return self.refuse(key, message);
        }
        match Setting::new(sysctl, value, Origin::Annotation { key: key.to_owned() }) {
            Ok(setting) => self.requests.sysctls.push(setting),
            Err(error) => self.refuse(key, error),
        }
    }
}

fn list(key: &str, value: &str) -> Result<List, Vec<crate::policy::list::Problem>> {
    List::parse(value, &Origin::Annotation { key: key.to_owned() })
}

pub(super) fn namespace(value: &str) -> Result<String, String> {
    match check_namespace(value) {
        Ok(()) => Ok(value.to_owned()),
        Err(problem) => Err(format!("{}: {problem}", shown(value))),
    }
}

fn one_of<T: Copy, const N: usize>(value: &str, words: [(&str, T); N]) -> Result<T, String> {
    if let Some((_, found)) = words.iter().find(|(word, _)| *word == value) {
        return Ok(*found);
    }
    let names = words.iter().map(|(word, _)| *word);
    let hint = suggest(value, names.clone()).map_or_else(String::new, |word| format!("; did you mean {word}?"));
    Err(format!("expected one of {}, found {}{hint}", names.collect::<Vec<_>>().join(", "), shown(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Requests, Vec<String>> {
        let map = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let parsed = Requests::parse(&map);
        crate::schema::tests::annotations_are_judged(&map, parsed.is_ok());
        parsed.map_err(|failure| {
            assert_eq!(failure.exit_code(), 15);
            match failure.cause {
                Cause::Annotation(findings) => findings.iter().map(ToString::to_string).collect(),
                other => panic!("{other:?}"),
            }
        })
    }

    #[test]
    fn every_key_is_read_with_its_origin() {
        let requests = parse(&[
            ("io.netlatch.egress", "10.0.0.0/8 tcp/192.0.2.1:443"),
            ("io.netlatch.ingress", "none"),
            ("io.netlatch.ipv6", "loopback-only"),
            ("io.netlatch.devconf", "kernel-defaults"),
            ("io.netlatch.sysctl.net.ipv4.tcp_rmem", "4096 87380 6291456"),
            ("io.netlatch.mode", "audit"),
            ("io.netlatch.on-denied", "drop"),
            ("io.netlatch.namespace", "shop"),
            ("io.netlatch.labels", "app=web,tier=front"),
            ("io.netlatch.ports", "http=8080/tcp"),
            ("io.kubernetes.cri.sandbox-namespace", "shop"),
            ("io.example.other", "x"),
        ])
        .unwrap();
        let egress = requests.egress.unwrap();
        assert_eq!(egress.value.entries().len(), 2);
        assert_eq!(egress.origin.to_string(), "annotation io.netlatch.egress");
        assert_eq!(requests.ingress.unwrap().value, List::NONE);
        assert_eq!(requests.ipv6.unwrap().value, Ipv6::LoopbackOnly);
        assert_eq!(requests.devconf.unwrap().value, Devconf::KernelDefaults);
        assert_eq!(requests.sysctls[0].key.to_string(), "net.ipv4.tcp_rmem");
        assert_eq!(requests.mode.unwrap().value, Mode::Audit);
        assert_eq!(requests.on_denied.unwrap().value, OnDenied::Drop);
        assert_eq!(requests.namespace.unwrap().origin.to_string(), "annotation io.netlatch.namespace");
        assert_eq!(requests.labels.unwrap().value["tier"], "front");
        assert_eq!(requests.ports.unwrap().value[0].port, 8080);
        assert_eq!(requests.given.len(), 10);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (key, value, wanted) in [
            ("io.netlatch.egres", "none", "unknown key; did you mean io.netlatch.egress?"),
            ("io.netlatch.Egress", "none", "did you mean io.netlatch.egress?"),
            ("io.netlatch.", "none", "unknown key; the keys are egress"),
            ("io.netlatch", "none", "our keys begin with io.netlatch."),
            ("io.netlatch/egress", "none", "did you mean io.netlatch.egress?"),
            ("IO.Netlatch.ingres", "none", "did you mean io.netlatch.ingress?"),
            ("io.netlatch.sysctl", "1", "unknown key"),
            ("io.netlatch.egress/web", "none", "unknown key"),
            ("io.netlatch.egress", "", "the list is empty"),
            ("io.netlatch.egress", "10.0.0.1/8", "entry \"10.0.0.1/8\""),
            ("io.netlatch.ipv6", "off", "expected one of leave, disable, loopback-only, enable, found \"off\""),
            ("io.netlatch.ipv6", "disabled", "did you mean disable?"),
            ("io.netlatch.mode", " audit", "expected one of enforce, audit"),
            ("io.netlatch.on-denied", "Drop", "did you mean drop?"),
            ("io.netlatch.devconf", "", "expected one of"),
            ("io.netlatch.namespace", "Shop", "expected 1 to 63"),
            ("io.netlatch.labels", "app", "\"app\": expected key=value"),
            ("io.netlatch.ports", "http=80/tcp,", "\"\": expected name=port"),
            ("io.netlatch.sysctl.kernel.msgmax", "1", "not below `net.`"),
            ("io.netlatch.sysctl.net.ipv4.x/../y", "1", ""),
            ("io.netlatch.sysctl.net.ipv4.tcp_rmem", "1\n2", "cannot stand"),
            ("io.netlatch.sysctl.net.ipv4.tcp_rmem", "", "empty"),
            ("io.kubernetes.pod.namespace", "No Such", "expected 1 to 63"),
        ] {
            let problems = parse(&[(key, value)]).expect_err(key);
            assert!(problems.len() == 1 && problems[0].contains(wanted), "{key}={value}: {problems:?}");
            assert!(!problems[0].contains('\n'), "{problems:?}");
        }
        for key in ["io.netlatchx.egress", "io.netlatch-agent.x", "io.net", "xio.netlatch.egress"] {
            assert!(parse(&[(key, "?")]).is_ok(), "{key}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let problems = parse(&[
            ("io.netlatch.egress", "10.0.0.1/8, nonsense!, *:0"),
            ("io.netlatch.ipv6", "no"),
            ("io.netlatch.labels", "a=1,a=2,/=x"),
            ("io.netlatch.typo", ""),
        ])
        .unwrap_err();
        assert_eq!(problems.len(), 7, "{problems:#?}");
    }

    #[test]
    fn one_file_has_one_value_however_it_is_spelled() {
        let problems = parse(&[
            ("io.netlatch.sysctl.net.ipv4.tcp_rmem", "1 2 3"),
            ("io.netlatch.sysctl.net/ipv4/tcp_rmem", "1 2 3"),
        ])
        .unwrap_err();
        assert!(problems[0].contains("is the same file as"), "{problems:?}");
    }

    #[test]
    fn long_values_are_refused_by_the_limit() {
        let long = "x".repeat(MAX_VALUE + 1);
        assert!(parse(&[("io.netlatch.labels", &long)]).unwrap_err()[0].contains("MAX_VALUE"));
        assert!(parse(&[("io.netlatch.egress", &" ".repeat(MAX_LIST + 1))]).unwrap_err()[0].contains("MAX_LIST"));
        let entry = parse(&[("io.netlatch.egress", &"?".repeat(MAX_LIST))]).unwrap_err();
        assert!(entry[0].len() < 1000);
        let key = format!("io.netlatch.{}\n", "x".repeat(100_000));
        let problems = parse(&[(&key, "")]).unwrap_err();
        assert!(problems[0].len() < 400 && !problems[0].contains('\n'));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(key in "(io\\.netlatch[./])?(sysctl\\.net\\.|egress|labels|ports|\\PC)?\\PC{0,20}", value in "\\PC{0,40}") {
            let _ = parse(&[(&key, &value)]);
        }

        #[test]
        fn no_value_panics(
            key in proptest::sample::select(Annotation::ALL.map(|(word, _)| word).to_vec()),
            value in "[\\[\\]@!*:/,=a-z0-9. \\t\\n-]{0,40}",
        ) {
            let _ = parse(&[(&format!("io.netlatch.{key}"), &value)]);
            let _ = parse(&[(&format!("io.netlatch.sysctl.{value}"), &value)]);
        }
    }
}
