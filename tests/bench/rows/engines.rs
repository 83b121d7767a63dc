//! What sets up networks for engines: CNI plugins and netavark. Each takes away behind itself what it left on the host.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{PATH, Row, Run};
use crate::namespace::Namespace;

/// What is measured, the plugin of it, and what that reads. firewall is given an address as an earlier plugin of a chain would,
/// and the second bridge asks a plugin for one.
const CNI: [(&str, &str, &str); 5] = [
    ("loopback", "loopback", r#"{"cniVersion":"0.4.0","name":"lo","type":"loopback"}"#),
    (
        "tuning",
        "tuning",
        r#"{"cniVersion":"0.4.0","name":"t","type":"tuning","sysctl":{"net.ipv4.tcp_fin_timeout":"30"},"prevResult":{"cniVersion":"0.4.0"}}"#,
    ),
    (
        "firewall",
        "firewall",
        r#"{"cniVersion":"0.4.0","name":"f","type":"firewall","backend":"iptables","prevResult":{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.88.0.5/16"}]}}"#,
    ),
    ("bridge", "bridge", r#"{"cniVersion":"0.4.0","name":"b","type":"bridge","bridge":"bench0","ipam":{}}"#),
    (
        "bridge, addresses, masquerading",
        "bridge",
        r#"{"cniVersion":"0.4.0","name":"m","type":"bridge","bridge":"bench1","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","subnet":"10.87.0.0/16","dataDir":"DIR/leases"}}"#,
    ),
];

/// Those that are installed.
pub(super) fn rows(dir: &Path) -> Vec<Row<'static>> {
    let plugins = CNI.into_iter().filter_map(|(what, plugin, config)| cni(dir, what, plugin, config));
    plugins.chain(netavark(dir)).collect()
}

fn cni(dir: &Path, what: &str, plugin: &str, config: &str) -> Option<Row<'static>> {
    let program = at(&Path::new("/usr/lib/cni").join(plugin))?;
    let input = dir.join(format!("cni-{what}"));
    fs::write(&input, config.replace("DIR", &dir.display().to_string())).expect("a file");
    let interface = if plugin == "loopback" { "lo" } else { "eth0" };
    let call = move |action: &str, n: &Namespace| {
        let mut run = Run::new(Command::new(&program), false, &input);
        run.command
            .env("CNI_COMMAND", action)
            .env("CNI_IFNAME", interface)
            .env("CNI_CONTAINERID", format!("c{}", n.pid()))
            .env("CNI_NETNS", n.path())
            .env("CNI_PATH", "/usr/lib/cni")
            .env("PATH", PATH);
        run
    };
    let run = move |n: &Namespace| Run { after: Some(Box::new(call("DEL", n))), ..call("ADD", n) };
    Some(Row { name: format!("CNI {what}"), run: Box::new(run) })
}

fn netavark(dir: &Path) -> Option<Row<'static>> {
    let program = at(Path::new("/usr/lib/podman/netavark"))?;
    let dir = dir.to_owned();
    let run = move |n: &Namespace| {
        let [.., third, fourth] = n.pid().to_be_bytes();
        let network = json!({
            "name": "podman", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9", "driver": "bridge",
            "network_interface": "podman0", "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}],
            "ipv6_enabled": false, "internal": false, "dns_enabled": false, "ipam_options": {"driver": "host-local"},
        });
        let asked = json!({
            "container_id": format!("c{}", n.pid()), "container_name": "bench",
            "networks": {"podman": {"interface_name": "eth0", "static_ips": [format!("10.88.{third}.{fourth}")]}},
            "network_info": {"podman": network},
        });
        let input = dir.join(format!("netavark-{}", n.pid()));
        fs::write(&input, asked.to_string()).expect("a file");
        let call = |action: &str| {
            let mut run = Run::new(Command::new(&program), false, &input);
            run.command.arg(action).arg(n.path()).env("PATH", PATH);
            run
        };
        Run { after: Some(Box::new(call("teardown"))), ..call("setup") }
    };
    Some(Row { name: "netavark setup, a bridge".to_owned(), run: Box::new(run) })
}

fn at(program: &Path) -> Option<std::path::PathBuf> {
    if !program.exists() {
        println!("not measured: {} is not installed", program.display());
    }
    program.exists().then(|| program.to_owned())
}
