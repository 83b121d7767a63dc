//! `netlatch explain`: one packet, put to the specification and to the ruleset ([`crate::explain`]).

mod text;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::load::{self, ConfigFile, Inputs};
use super::output::{Output, Printed};
use super::page::Look;
use super::{Outcome, print_json};
use crate::document::shown;
use crate::error::{Cause, Failure, Finding};
use crate::explain::{Container, Explanation, flow};
use crate::kernel::files::Trust;
use crate::kernel::process::{DEADLINE, Deadline};
use crate::live;
use crate::net::{Direction, Origin, Payload, Transport, is_of_one_link};
use crate::plan::{Cluster, Facts, needs_host_addresses, rules};
use crate::policy::lookup::{End, World};
use crate::policy::world::{Inventory, Pod};
use crate::registry::{RUN_DIR, Registry, Roster, Subject};

/// The command line, as clap reads it.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// Manifests: files, and folders with all their *.yaml, *.yml and *.json; without, the policies folder
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., conflicts_with_all = ["state", "config"])]
    paths: Vec<PathBuf>,
    /// Instead of a pod: a container with this state, a file or - for stdin, with all that it would meet
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Who sends: NAMESPACE/POD, an address, or container:ID
    #[arg(long, value_name = "END")]
    from: Option<String>,
    /// Who is to get it
    #[arg(long, value_name = "END")]
    to: Option<String>,
    /// The destination port; needed but for ICMP
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// What is spoken
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    protocol: Protocol,
    #[command(flatten)]
    printed: Printed,
    /// The state directory; where it is given, the running containers are pods like those of the manifests
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    look: Look,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
    Icmp,
}

/// What the help says beyond its options.
pub(super) const HELP: &str = "\
Examples:
  netlatch explain -f policies/ --from shop/web --to shop/db --port 5432
  netlatch explain --state state.json --to 192.0.2.7 --port 443

The first word is the verdict. Each half follows with the rule that decided and where it was written, or with the rules \
that came nearest to allowing it and what was missing.

The ruleset is asked for itself. Should it say otherwise than the specification, that is a bug of netlatch, and the exit \
code 63. Otherwise the code is 0 whatever is denied.";

/// This host, among the pods: whoever is on its network. No manifest can have such names.
const THIS_HOST: &str = "(this host)";

const DOING: &str = "explain the packet";

/// Answers.
pub(super) fn run(question: &Question) -> Result<Outcome, Failure> {
    let payload = payload(question)?;
    let explanation = match &question.state {
        Some(state) => of_container(question, state, payload)?,
        None => of_pods(question, payload)?,
    };
    match question.printed.output() {
        Output::Text => {
            let mut page = question.look.page();
            text::text(&explanation, &mut page);
            page.print()?;
        }
        Output::Json => print_json(&format!("{:#}\n", explanation.to_json()))?,
    }
    outcome(&explanation)
}

/// A contradiction is a failure of ours, whatever the verdict.
fn outcome(explanation: &Explanation) -> Result<Outcome, Failure> {
    match explanation.contradiction() {
        None => Ok(Outcome::Done),
        Some(half) => {
            let bug = format!("{} of {}: {}", half.direction, half.of, half.ruleset);
            Err(Failure::new("trust this answer", Cause::Internal(bug)))
        }
    }
}

fn usage(problem: &str) -> Failure {
    Failure::new("read the command line", Cause::Usage(problem.to_owned()))
}

fn payload(question: &Question) -> Result<Payload, Failure> {
    let protocol = match question.protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Sctp => Transport::Sctp,
        // An echo request; policies do not tell its types apart.
        Protocol::Icmp if question.port.is_none() => return Ok(Payload::Icmp { kind: 8 }),
        Protocol::Icmp => return Err(usage("ICMP has no ports; leave --port out")),
    };
    let port = question.port.ok_or_else(|| usage("--port is missing"))?;
    Ok(Payload::Transport { protocol, port })
}

/// Two pods, or a pod and an address.
fn of_pods(question: &Question, payload: Payload) -> Result<Explanation, Failure> {
    let (Some(from), Some(to)) = (&question.from, &question.to) else {
        return Err(usage("--from and --to say which packet; with --state one of them"));
    };
    let manifests = if question.paths.is_empty() {
        load::policies_under(&ConfigFile::new(question.config.clone()), Trust::Any)?
    } else {
        load::manifests_below(&question.paths)?
    };
    let ends = [("--from", from), ("--to", to)];
    let asked = ends.iter().any(|(_, end)| end.starts_with(CONTAINER)) || question.run_dir.is_some();
    let roster = if asked { running(question, &manifests.inventory) } else { Roster::default() };
    let mut inventory = manifests.inventory;
    if asked {
        let host = super::hook::host_addresses(&Deadline::after(DEADLINE))?;
        inventory.pods.extend(roster.subjects.iter().map(|subject| here(subject)));
        inventory.pods.push(this_host(host));
    }
    let world = World::new(inventory);
    let [from, to] = ends.map(|(option, text)| end(&world, &roster, option, text, question));
    Ok(flow(&manifests.policies, &world, &from?, &to?, payload))
}

const CONTAINER: &str = "container:";

fn end<'w>(
    world: &'w World,
    roster: &Roster,
    option: &str,
    text: &str,
    question: &Question,
) -> Result<End<'w>, Failure> {
    let problem = |message: String| {
        let finding = Finding { file: option.to_owned(), position: None, at: String::new(), message };
        Failure::new(DOING, Cause::Policy(vec![finding]))
    };
    if let Some(id) = text.strip_prefix(CONTAINER) {
        // Whoever shares its network is the same pod, which has the name of one of them.
        let known = roster.subject_of(id).map(here).and_then(|pod| world.pod(&pod.namespace, &pod.name));
        return known.map(|pod| world.end_of(pod)).ok_or_else(|| {
            let dir = run_dir(question).display().to_string();
            problem(format!("no running container {} is recorded in {dir}, or it may not be read", shown(id)))
        });
    }
    match text.split_once('/') {
        Some((namespace, name)) => world
            .pod(namespace, name)
            .map(|pod| world.end_of(pod))
            .ok_or_else(|| problem(format!("there is no pod {} in these manifests", shown(text)))),
        None => text.parse::<IpAddr>().map(|address| world.end_at(address)).map_err(|_| {
            let found = shown(text);
            problem(format!("expected NAMESPACE/POD, an address or container:ID, found {found}"))
        }),
    }
}

fn run_dir(question: &Question) -> &Path {
    question.run_dir.as_deref().unwrap_or(Path::new(RUN_DIR))
}

/// Who runs on this host.
fn running(question: &Question, inventory: &Inventory) -> Roster {
    Registry::at(run_dir(question)).who_runs(|namespace| inventory.namespace_labels(namespace)).unwrap_or_default()
}

/// A container of this host as a pod of this node.
fn here(subject: &Subject) -> Pod {
    Pod { node: Some(THIS_HOST.to_owned()), ..live::pod(subject) }
}

/// What makes this host's addresses the node of its containers, without a Node that policies could select.
///
/// Link-local addresses are left out, as in the rules: a neighbour may choose one that this host has on another link.
fn this_host(mut addresses: Vec<IpAddr>) -> Pod {
    addresses.retain(|address| !is_of_one_link(*address));
    Pod {
        namespace: THIS_HOST.to_owned(),
        name: THIS_HOST.to_owned(),
        labels: Default::default(),
        addresses,
        ports: Vec::new(),
        host_network: true,
        node: Some(THIS_HOST.to_owned()),
        origin: Origin::Builtin("this host"),
    }
}

/// A container that need not exist, with everything it would meet.
fn of_container(question: &Question, state: &Path, payload: Payload) -> Result<Explanation, Failure> {
    let (direction, peer) = match (&question.from, &question.to) {
        (None, Some(to)) => (Direction::Egress, to),
        (Some(from), None) => (Direction::Ingress, from),
        (Some(_), Some(_)) | (None, None) => {
            return Err(usage("with --state, either --from or --to says who the other end is"));
        }
    };
    let peer: IpAddr = peer.parse().map_err(|_| usage("with --state the other end is an address"))?;
    let deadline = Deadline::after(DEADLINE);
    let config = ConfigFile::new(question.config.clone());
    let inputs = load::inputs(super::plan::state(state, &deadline)?, &config, Trust::Any)?;
    let asked = inputs.has_policies() || needs_host_addresses(&inputs.settings);
    let host = if asked { super::hook::host_addresses(&deadline)? } else { Vec::new() };
    let roster = match question.run_dir {
        Some(_) => running(question, &inputs.manifests.inventory),
        None => Roster::default(),
    };
    of_inputs(&inputs, &roster, host, direction, peer, payload)
}

fn of_inputs(
    inputs: &Inputs,
    roster: &Roster,
    host: Vec<IpAddr>,
    direction: Direction,
    peer: IpAddr,
    payload: Payload,
) -> Result<Explanation, Failure> {
    let plain = &inputs.manifests.inventory;
    let identity = inputs.identity()?;
    let mut inventory = plain.clone();
    inventory.pods.extend(roster.subjects.iter().map(|subject| here(subject)));
    inventory.pods.push(this_host(host.clone()));
    let world = World::new(inventory);
    let subject =
        Pod { node: Some(THIS_HOST.to_owned()), ..Pod::of_container(&inputs.state.id, &identity, Vec::new()) };
    let elsewhere = plain.peers();
    let cluster = Cluster {
        policies: &inputs.manifests.policies,
        identity: &identity,
        pods: &live::holders(roster, &elsewhere),
        nodes: &plain.nodes,
        world: &world,
        subject: &subject,
    };
    let facts = Facts { host: host.clone(), node: host.clone(), ..Facts::default() };
    let rules = rules(&inputs.settings, &facts, Some(&cluster))?;
    let container = Container {
        settings: &inputs.settings,
        policies: &inputs.manifests.policies,
        world: &world,
        subject: &subject,
        host: &host,
        table: rules.table.as_ref(),
    };
    Ok(container.explain(direction, peer, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::page::Page;
    use crate::error::EXIT_INTERNAL;
    use crate::explain::{Decided, Half, Ruleset, Said};

    fn explanation(ruleset: Ruleset) -> Explanation {
        let payload = Payload::Transport { protocol: Transport::Tcp, port: 80 };
        let why = "allowed, no policy isolates it and no rule denies it".to_owned();
        let said = Said { layer: "policies", allowed: true, why, origin: None, nearest: Vec::new() };
        let half = Half {
            direction: Direction::Ingress,
            of: "shop/db".to_owned(),
            peer: "shop/web (10.1.0.1)".to_owned(),
            payload,
            allowed: true,
            layers: vec![said],
            ruleset,
        };
        Explanation {
            from: "shop/web".to_owned(),
            to: "shop/db".to_owned(),
            payload,
            allowed: true,
            egress: Some(true),
            ingress: Some(true),
            notes: Vec::new(),
            halves: vec![half],
        }
    }

    #[test]
    fn a_contradiction_is_told_as_our_bug_and_is_a_failure() {
        let rule = || Decided::Rule { chain: "ingress_network".to_owned(), comment: "web.yaml:3".to_owned() };
        let differs = explanation(Ruleset::Differs { passes: false, by: rule() });
        let bug = "BUG: the specification says allowed, the ruleset denied: chain ingress_network, rule \"web.yaml:3\"; \
                   please report this with the files it was asked of";
        let mut page = Page::plain(usize::MAX);
        text::text(&differs, &mut page);
        let text = page.into_text();
        assert!(text.starts_with("allowed: ") && text.contains(bug), "{text}");
        let failure = outcome(&differs).unwrap_err();
        assert_eq!(failure.exit_code(), EXIT_INTERNAL.code);
        assert!(failure.to_string().contains(&format!("ingress of shop/db: {bug}")), "{failure}");
        let json = differs.to_json();
        assert_eq!((&json["agrees"], &json["halves"][0]["ruleset"]["agrees"]), (&false.into(), &false.into()));
        assert_eq!(json["halves"][0]["ruleset"]["allowed"], false);

        let agrees = explanation(Ruleset::Agrees(rule()));
        assert_eq!(outcome(&agrees), Ok(Outcome::Done));
        assert_eq!(agrees.to_json()["agrees"], true);
    }
}
