//! Annotations may only tighten: whatever they say, what passes with them passed without them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlatch::net::{Direction, Packet, Payload, Transport};
use netlatch::oci::Requests;
use netlatch::settings::{Config, Settings};
use netlatch::sysctl::{Ipv6, same_value};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const HOST: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1))];

/// Few peers, so that lists and packets meet.
const PEERS: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "169.254.169.254",
    "198.51.100.1",
    "8.8.8.8",
    "2001:db8::1",
    "fd00:ec2::254",
    "2606:4700::1111",
];

const ENTRIES: [&str; 18] = [
    "*",
    "*:443",
    "10.0.0.0/8",
    "10.0.0.1",
    "tcp/10.0.0.2:443",
    "udp/*:53",
    "icmp/*",
    "169.254.169.254",
    "169.254.0.0/16",
    "[fd00:ec2::254]:443",
    "@internet",
    "@private",
    "@host",
    "@metadata",
    "2001:db8::/32",
    "!10.0.0.1",
    "!@metadata",
    "!udp/*:53",
];

fn list() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("none".to_owned()),
        6 => subsequence(ENTRIES.to_vec(), 1..5).prop_map(|entries| entries.join(", ")),
    ]
}

const IPV6: [&str; 4] = ["leave", "disable", "loopback-only", "enable"];
const MODE: [&str; 2] = ["enforce", "audit"];
const ON_DENIED: [&str; 2] = ["reject", "drop"];
const SYSCTLS: [&str; 6] = [
    "net.ipv4.tcp_fin_timeout",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.conf.default.disable_ipv6",
    "net.ipv6.conf.lo.disable_ipv6",
    "net.ipv6.conf.eth0.disable_ipv6",
    "net/ipv6/conf/eth0/disable_ipv6",
];

fn sometimes(value: impl Strategy<Value = String>) -> impl Strategy<Value = Option<String>> {
    proptest::option::of(value)
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

fn sysctls(keys: &'static [&'static str]) -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(word(keys), word(&["0", "1"]), 0..3)
}

fn groups() -> impl Strategy<Value = String> {
    subsequence(vec!["metadata", "private", "host", "internet"], 0..4)
        .prop_map(|groups| format!("[{}]", groups.join(",")))
}

fn config() -> impl Strategy<Value = String> {
    let fields = (
        sometimes(list()),
        sometimes(list()),
        sometimes(word(&IPV6)),
        sometimes(word(&MODE)),
        sometimes(word(&ON_DENIED)),
        sometimes(groups()),
        sysctls(&SYSCTLS[..5]),
        any::<bool>(),
    );
    fields.prop_map(|(egress, ingress, ipv6, mode, on_denied, always_denied, sysctls, any_sysctl)| {
        let mut text = String::new();
        let quoted =
            [("egress", egress), ("ingress", ingress), ("ipv6", ipv6), ("mode", mode), ("on-denied", on_denied)];
        for (key, value) in quoted {
            text.extend(value.map(|value| format!("{key}: \"{value}\"\n")));
        }
        text.extend(always_denied.map(|groups| format!("always-denied: {groups}\n")));
        if !sysctls.is_empty() {
            text += "sysctl:\n";
            text.extend(sysctls.iter().map(|(key, value)| format!("  {key}: {value}\n")));
        }
        if any_sysctl {
            text += "allow-sysctls: [\"net.*\"]\n";
        }
        text
    })
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let fields = (
        sometimes(list()),
        sometimes(list()),
        sometimes(word(&IPV6)),
        sometimes(word(&MODE)),
        sometimes(word(&ON_DENIED)),
        sysctls(&SYSCTLS),
    );
    fields.prop_map(|(egress, ingress, ipv6, mode, on_denied, sysctls)| {
        let words =
            [("egress", egress), ("ingress", ingress), ("ipv6", ipv6), ("mode", mode), ("on-denied", on_denied)];
        let words = words.into_iter().filter_map(|(key, value)| Some((format!("io.netlatch.{key}"), value?)));
        let sysctls = sysctls.into_iter().map(|(key, value)| (format!("io.netlatch.sysctl.{key}"), value));
        words.chain(sysctls).collect()
    })
}

fn packets() -> impl Iterator<Item = Packet> {
    let tcp = |port| Payload::Transport { protocol: Transport::Tcp, port };
    let payloads = [
        tcp(443),
        tcp(80),
        Payload::Transport { protocol: Transport::Udp, port: 53 },
        Payload::Icmp { kind: 8 },
        Payload::Other(47),
    ];
    Direction::BOTH.into_iter().flat_map(move |direction| {
        PEERS.into_iter().flat_map(move |peer| {
            payloads.into_iter().map(move |payload| Packet { direction, peer: peer.parse().unwrap(), payload })
        })
    })
}

const fn laxness(mode: Ipv6) -> u8 {
    match mode {
        Ipv6::Disable => 0,
        Ipv6::LoopbackOnly => 1,
        Ipv6::Leave => 2,
        Ipv6::Enable => 3,
    }
}

/// What the last of `settings` that reaches `interface` leaves in its disable_ipv6, from `before`.
fn disable_ipv6(settings: &Settings, interface: &str) -> Option<String> {
    let mut value = match settings.ipv6.value {
        Ipv6::Disable => Some("1"),
        Ipv6::LoopbackOnly => Some(if interface == "lo" { "0" } else { "1" }),
        Ipv6::Leave => None,
        Ipv6::Enable => Some("0"),
    };
    for setting in &settings.sysctls {
        if let Some((_, reached, "disable_ipv6")) = setting.key.as_conf()
            && (reached == "all" || reached == interface)
        {
            value = Some(&setting.value);
        }
    }
    value.map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn annotations_only_tighten(config in config(), annotations in annotations()) {
        let Ok(parsed) = Config::parse("c.yaml", config.as_bytes()) else { return Err(TestCaseError::reject("no config")) };
        let Ok(requests) = Requests::parse(&annotations) else { return Err(TestCaseError::reject("no annotations")) };
        let without = Settings::decide(Some(parsed.clone()), Requests::default());
        let Ok(without) = without else { return Err(TestCaseError::reject("the configuration contradicts itself")) };
        // Refused is as tight as it gets.
        let Ok(with) = Settings::decide(Some(parsed.clone()), requests) else { return Ok(()) };

        for packet in packets() {
            prop_assert!(!with.passes(&packet, &HOST) || without.passes(&packet, &HOST), "{packet:?} passes now");
        }
        if parsed.ipv6.is_some() {
            prop_assert!(laxness(with.ipv6.value) <= laxness(without.ipv6.value));
        }
        for setting in &without.sysctls {
            let now = with.sysctls.iter().find(|now| now.key == setting.key).map(|now| now.value.as_str());
            prop_assert!(now.is_some_and(|now| same_value(now, &setting.value)), "{} is {now:?}", setting.key);
        }
        for interface in ["lo", "eth0", "default"] {
            let (before, now) = (disable_ipv6(&without, interface), disable_ipv6(&with, interface));
            prop_assert!(before.as_deref() != Some("1") || now.as_deref() == Some("1"), "{interface} got IPv6 back");
        }
        prop_assert_eq!(&with.always_denied, &without.always_denied);
        prop_assert_eq!(&with.mode, &without.mode);
        prop_assert_eq!(&with.net_admin, &without.net_admin);
        prop_assert_eq!(&with.net_raw, &without.net_raw);
        prop_assert_eq!(&with.host_network, &without.host_network);
        prop_assert_eq!(&with.policies, &without.policies);
        let admins = |settings: &Settings| settings.lists.iter().filter(|l| !l.origin.is_annotation()).cloned().collect::<Vec<_>>();
        prop_assert_eq!(admins(&with), admins(&without));
    }
}
