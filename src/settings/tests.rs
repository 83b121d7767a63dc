use super::*;

fn decide(config: &str, annotations: &[(&str, &str)]) -> Result<Settings, String> {
    let config = Config::parse("c.yaml", config.as_bytes()).unwrap_or_else(|failure| panic!("{failure}"));
    let map = annotations.iter().map(|(key, value)| (format!("io.netlatch.{key}"), (*value).to_owned())).collect();
    let requests = Requests::parse(&map).unwrap_or_else(|failure| panic!("{failure}"));
    Settings::decide(Some(config), requests).map_err(|failure| format!("{} {failure}", failure.exit_code()))
}

fn summary(settings: &Settings) -> Vec<String> {
    let layer = |layer: &ListLayer| {
        let (mode, answer) = (layer.mode.name(), layer.on_denied.name());
        format!("{} {:?} {mode} {answer} {}", layer.direction, layer.source, layer.origin)
    };
    settings.lists.iter().map(layer).collect()
}

#[test]
fn without_anything_the_defaults_hold_and_say_so() {
    let settings = Settings::decide(None, Requests::default()).unwrap();
    assert_eq!(settings.lists, []);
    assert_eq!(settings.always_denied.value, [Group::Metadata].into());
    assert_eq!(settings.ipv6.origin.to_string(), "built-in ipv6");
    assert_eq!((settings.ipv6.value, settings.devconf.value), (Ipv6::Leave, Devconf::Leave));
    assert_eq!((settings.net_admin.value, settings.host_network.value), (NetAdmin::Refuse, HostNetwork::Skip));
    assert_eq!(settings.router_advertisements.value, RouterAdvertisements::Drop);
    assert_eq!(settings.policies.value, PathBuf::from("/etc/netlatch/policies"));
    assert_eq!(settings.identity.namespace.value, "default");
    assert_eq!(settings.denies_always(), None);
    assert!(!settings.explicit);
}

#[test]
fn lists_are_layers_and_each_source_governs_its_own() {
    let settings = decide("egress: none\ningress: none", &[("egress", "*"), ("ingress", "*")]).unwrap();
    assert_eq!(
        summary(&settings),
        [
            "egress Baseline enforce reject c.yaml:1 egress",
            "ingress Baseline enforce drop c.yaml:2 ingress",
            "egress Annotation enforce reject annotation io.netlatch.egress",
            "ingress Annotation enforce drop annotation io.netlatch.ingress",
        ]
    );
    assert!(settings.explicit);
    let settings =
        decide("egress: none\non-denied: reject", &[("egress", "*"), ("mode", "audit"), ("on-denied", "drop")])
            .unwrap();
    assert_eq!(
        summary(&settings),
        [
            "egress Baseline enforce reject c.yaml:1 egress",
            "egress Annotation audit drop annotation io.netlatch.egress",
        ]
    );
    let settings = decide("ingress: none\nmode: audit\non-denied: reject", &[("ingress", "*")]).unwrap();
    assert_eq!(
        summary(&settings),
        [
            "ingress Baseline audit reject c.yaml:1 ingress",
            "ingress Annotation audit reject annotation io.netlatch.ingress",
        ]
    );
    let settings = decide("egress: none\nmode: audit", &[("egress", "*"), ("mode", "enforce")]).unwrap();
    assert_eq!((settings.lists[0].mode, settings.lists[1].mode), (Mode::Audit, Mode::Enforce));
}

#[test]
fn an_annotation_opens_metadata_only_where_nobody_else_closed_it() {
    let reach = |config: &str, annotations: &[(&str, &str)]| {
        let peer = "169.254.169.254".parse().unwrap();
        let payload = crate::net::Payload::Transport { protocol: crate::net::Transport::Tcp, port: 80 };
        decide(config, annotations).unwrap().passes(&Packet { direction: Direction::Egress, peer, payload }, &[])
    };
    assert!(reach("", &[]));
    assert!(!reach("", &[("egress", "*")]));
    assert!(!reach("", &[("egress", "169.254.0.0/16")]));
    assert!(reach("", &[("egress", "169.254.169.254")]));
    assert!(reach("", &[("egress", "*"), ("mode", "audit")]));
    assert!(!reach("egress: '*'", &[]));
    assert!(!reach("egress: '*'", &[("egress", "169.254.169.254")]));
    assert!(reach("egress: '*, 169.254.169.254'", &[]));
    assert!(!reach("egress: '*, 169.254.169.254'", &[("egress", "10.0.0.0/8")]));
    assert!(reach("egress: '*, 169.254.169.254'", &[("egress", "*")]));
    assert!(!reach("always-denied: [metadata]", &[]));
    assert!(!reach("always-denied: [metadata]", &[("egress", "169.254.169.254")]));
    assert!(reach("always-denied: []", &[("egress", "*")]));
    assert!(reach("always-denied: [metadata]\nmode: audit", &[]));
}

#[test]
fn ipv6_is_only_ever_less() {
    let order = ["disable", "loopback-only", "leave", "enable"];
    for (admins, config) in order.iter().enumerate() {
        for (asked, annotation) in order.iter().enumerate() {
            let decided = decide(&format!("ipv6: {config}"), &[("ipv6", annotation)]);
            if asked <= admins {
                assert_eq!(decided.unwrap().ipv6.value.name(), *annotation);
            } else {
                assert_eq!(
                    decided.unwrap_err(),
                    format!(
                        "17 cannot do what the container's annotations ask for: annotation io.netlatch.ipv6 asks for {annotation}, but c.yaml:1 ipv6 says {config}; a container can only tighten; drop the annotation, or let the admin change the configuration file"
                    )
                );
            }
        }
    }
    assert_eq!(decide("", &[("ipv6", "enable")]).unwrap().ipv6.value, Ipv6::Enable);
}

#[test]
fn what_the_admin_does_not_grant_is_refused_with_both_places() {
    for (config, annotations, wanted) in [
        ("devconf: host", [("devconf", "kernel-defaults")], "17 "),
        ("devconf: leave", [("devconf", "host")], "c.yaml:1 devconf says leave"),
        (
            "allow-annotations: [egress, sysctl]",
            [("ipv6", "disable")],
            "c.yaml:1 allow-annotations permits egress, sysctl",
        ),
        ("allow-annotations: []", [("egress", "none")], "permits none"),
        (
            "allow-annotations: [egress]",
            [("sysctl.net.ipv4.tcp_rmem", "1 2 3")],
            "carries the annotation io.netlatch.sysctl.net.ipv4.tcp_rmem",
        ),
        ("", [("sysctl.net.core.somaxconn", "1")], "built-in allow-sysctls permits net.ipv4."),
        ("allow-sysctls: []", [("sysctl.net.ipv4.tcp_rmem", "1 2 3")], "c.yaml:1 allow-sysctls permits none"),
        ("sysctl: {net.ipv4.tcp_rmem: 1 2 4}", [("sysctl.net.ipv4.tcp_rmem", "1 2 3")], "17 "),
        ("sysctl: {net.ipv4.tcp_rmem: 1 2 4}", [("sysctl.net.ipv4.tcp_rmem", "1 2 3")], "says 1 2 4"),
        ("ipv6: disable\nallow-sysctls: ['net.*']", [("sysctl.net.ipv6.conf.all.disable_ipv6", "0")], "18 "),
        ("ipv6: leave\nallow-sysctls: ['net.*']", [("sysctl.net.ipv6.conf.all.disable_ipv6", "0")], "17 "),
        (
            "sysctl: {net.ipv6.conf.all.disable_ipv6: 1}\nallow-sysctls: ['net.*']",
            [("sysctl.net.ipv6.conf.eth0.disable_ipv6", "0")],
            "18 ",
        ),
        (
            "sysctl: {net.ipv6.conf.eth0.disable_ipv6: 1}\nallow-sysctls: ['net.*']",
            [("sysctl.net.ipv6.conf.all.disable_ipv6", "0")],
            "18 ",
        ),
        ("sysctl: {net.ipv6.conf.all.disable_ipv6: 1}", [("ipv6", "enable")], "18 "),
    ] {
        let found = decide(config, &annotations).expect_err(config);
        assert!(found.contains(wanted), "{config} {annotations:?}: {found}");
    }
    let own = decide("allow-sysctls: ['net.*']", &[("ipv6", "disable"), ("sysctl.net.ipv6.conf.lo.disable_ipv6", "0")]);
    assert!(own.unwrap_err().starts_with("18 "));
}

#[test]
fn what_the_admin_grants_is_taken() {
    let settings = decide(
        "sysctl: {net.ipv4.tcp_rmem: 1 2 3, net.core.somaxconn: 5}\nipv6: loopback-only\ndevconf: host",
        &[
            ("sysctl.net.ipv4.tcp_rmem", "1 2  3"),
            ("sysctl.net.ipv4.tcp_fin_timeout", "20"),
            ("devconf", "host"),
            ("ipv6", "disable"),
            ("namespace", "shop"),
            ("labels", "app=web"),
        ],
    )
    .unwrap();
    let sysctls: Vec<String> = settings.sysctls.iter().map(|s| format!("{}={} {}", s.key, s.value, s.origin)).collect();
    assert_eq!(
        sysctls,
        [
            "net.ipv4.tcp_rmem=1 2 3 c.yaml:1 sysctl[\"net.ipv4.tcp_rmem\"]",
            "net.core.somaxconn=5 c.yaml:1 sysctl[\"net.core.somaxconn\"]",
            "net.ipv4.tcp_fin_timeout=20 annotation io.netlatch.sysctl.net.ipv4.tcp_fin_timeout",
        ]
    );
    assert_eq!(settings.ipv6.origin.to_string(), "annotation io.netlatch.ipv6");
    assert_eq!(settings.devconf.origin.to_string(), "c.yaml:3 devconf");
    assert_eq!(settings.identity.namespace.value, "shop");
    assert_eq!(settings.identity.labels.value["app"], "web");
}

#[test]
fn an_engines_namespace_is_no_annotation_of_the_containers() {
    let map = BTreeMap::from([("io.kubernetes.pod.namespace".to_owned(), "shop".to_owned())]);
    let config = Config::parse("c.yaml", b"allow-annotations: []").unwrap();
    let settings = Settings::decide(Some(config), Requests::parse(&map).unwrap()).unwrap();
    assert_eq!(settings.identity.namespace.value, "shop");
    assert!(!settings.explicit);
}
