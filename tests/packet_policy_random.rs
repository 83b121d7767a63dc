//! Random worlds: what the specification says of random policies against what real packets say of the hook's rules.
//!
//! `NETLATCH_WORLDS=100` plays more than the usual few, `NETLATCH_SEED` plays one set of them again. The specification
//! (`policy::verdict`) and the rules have nothing in common but the parser and the words. What it is told of the pods it
//! reads from manifests; the hook has annotations and the addresses that it finds.

mod support;

use netlatch::net::Payload;
use netlatch::policy::lookup::{End, World};
use netlatch::policy::parse::{Collector, Outcome};
use netlatch::policy::verdict::Judge;
use support::case::Case;
use support::dice::Dice;
use support::{play, random_policy};

const WORLDS: usize = 5;
const PODS: usize = 6;

/// Fills in what the specification says of each cell.
fn judged(mut world: Case) -> Case {
    let mut collector = Collector::new();
    for pod in &world.pods {
        collector.read(&pod.full_name(), pod.manifest().to_string().as_bytes());
    }
    for (file, text) in world.manifests().iter().chain(&world.documents) {
        collector.read(file, text.as_bytes());
    }
    let Outcome { manifests, errors, .. } = collector.finish();
    let manifests = manifests.unwrap_or_else(|| panic!("{errors:?}\n{}", printed(&world)));
    let (policies, inventory) = (manifests.policies, World::new(manifests.inventory));
    let judge = Judge::new(&policies, &inventory);
    let ends = world.ends();
    let end = |name: &str| -> End<'_> {
        let (_, address) = ends.iter().find(|(end, _)| end == name).expect("an end");
        inventory.end_at(*address)
    };
    for cell in &mut world.expect {
        let payload = Payload::Transport { protocol: cell.transport(), port: cell.port };
        cell.allowed = judge.flow(&end(&cell.from), &end(&cell.to), payload).allowed();
    }
    world
}

fn printed(world: &Case) -> String {
    let files = world.manifests().into_iter().chain(world.documents.iter().cloned());
    files.map(|(file, text)| format!("# {file}\n{text}\n---\n")).collect()
}

/// The three steps of a world.
fn steps(seed: u64) -> [Case; 3] {
    let mut dice = Dice::with(seed);
    let first = random_policy::world(&mut dice, PODS);
    let second = random_policy::later(&mut dice, &first);
    let third = random_policy::later(&mut dice, &second);
    [first, second, third].map(judged)
}

#[test]
fn random_worlds_are_sound_and_neither_open_nor_closed() {
    let dice = Dice::new("random worlds");
    let cells = (0..100).flat_map(|i| steps(dice.seed.wrapping_add(i))).flat_map(|step| step.expect);
    let (allowed, denied): (Vec<_>, Vec<_>) = cells.partition(|cell| cell.allowed);
    let share = denied.len() * 100 / (allowed.len() + denied.len());
    assert!((10..90).contains(&share), "{share} % of all cells are denied; NETLATCH_SEED={}", dice.seed);
}

/// Plays the first steps of some worlds.
fn play_some(what: &str, count: usize) {
    let worlds = std::env::var("NETLATCH_WORLDS").map_or(WORLDS, |text| text.parse().expect("NETLATCH_WORLDS"));
    let dice = Dice::new(what);
    play::judge(&dice, worlds, |number| steps(dice.seed.wrapping_add(number as u64))[..count].to_vec());
}

#[test]
fn packets_fare_as_the_specification_says_in_random_worlds() {
    play_some("random worlds", 1);
}

#[test]
fn packets_fare_as_the_specification_says_while_random_worlds_change() {
    play_some("random worlds that change", 3);
}
