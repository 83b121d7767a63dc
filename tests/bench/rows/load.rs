//! Rules of many blocks: a start with a long list beside `nft -f` of the same rules, which it has only to load, and beside the
//! kernel's own time for them: the same batch from a program that does nothing else.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{Row, Run, hook, host, in_turns, installed, sizes, state};
use crate::report::Group;
use crate::{Bench, canned};

const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];

/// Lists of so many entries and more are in the one picture of all.
const LONG: usize = 1_000;

/// A sort of list, and its entries.
type Shape = (&'static str, fn(usize) -> String);

/// Entries neither touch nor overlap, so that nothing can be merged.
const SHAPES: [Shape; 5] = [
    ("IPv4 blocks /24 to /32", |n| format!("{}/{}", v4(512 * n), 24 + n % 9)),
    ("IPv4 addresses", |n| v4(3 * n)),
    ("IPv6 blocks /48 to /64", |n| format!("2001:{:x}:{:x}::/{}", 0x1000 + n / 0x8000, n % 0x8000 * 2, 48 + n % 17)),
    ("IPv4 blocks and one port", |n| format!("tcp/{}/{}:443", v4(512 * n), 24 + n % 9)),
    ("IPv4 addresses and a port each", |n| format!("tcp/{}:{}", v4(3 * n), 1 + n % 1000)),
];

fn v4(offset: usize) -> String {
    std::net::Ipv4Addr::from_bits(0x0b00_0000 + offset as u32).to_string()
}

pub(crate) fn measure(bench: &Bench) {
    let Some(nft) = installed("nft") else { return };
    let mut long = Group::new("load", "Long lists, from exec to exit, and nft -f of the same rules", 0, []);
    for (index, (shape, entry)) in SHAPES.into_iter().enumerate() {
        for size in sizes(&SIZES) {
            let dir = host();
            let list = (0..size).map(entry).collect::<Vec<_>>().join(" ");
            let annotations = json!({"io.netlatch.egress": list});
            let any: Value = json!({
                "ociVersion": "1.0.2", "id": "any", "status": "creating", "pid": 2, "annotations": annotations,
            });
            let (canned, rules, nothing) =
                (dir.path().join("canned"), dir.path().join("rules.nft"), dir.path().join("nothing"));
            fs::write(&nothing, "").expect("a file");
            fs::write(dir.path().join("any.json"), any.to_string()).expect("a file");
            fs::write(&rules, super::start::rules(bench, dir.path(), &dir.path().join("any.json"))).expect("a file");
            canned::write(&any.to_string(), false, &canned);

            let (netlatch, home) = (bench.netlatch.clone(), dir.path().to_owned());
            let (nft, floor) = (nft.clone(), bench.floor.clone());
            let (input, behind) = (nothing.clone(), nothing.clone());
            let rows = [
                Row {
                    name: format!("netlatch createRuntime, {size}"),
                    run: Box::new(move |n| hook(&netlatch, &home, state(&home, n, &annotations))),
                },
                Row {
                    name: format!("nft -f of the same rules, {size}"),
                    run: Box::new(move |_| {
                        let mut command = Command::new(&nft);
                        command.arg("-f").arg(&rules);
                        Run::new(command, true, &input)
                    }),
                },
                Row {
                    name: format!("the kernel's part, {size}"),
                    run: Box::new(move |n| {
                        let mut command = Command::new(&floor);
                        command.arg(n.pid().to_string()).arg(&canned);
                        Run::new(command, false, &behind)
                    }),
                },
            ];
            let name = format!("load-{index}-{size}");
            let title = format!("A list of {size} {shape}, from exec to exit");
            let mut group = Group::new(&name, &title, 0, rows.iter().map(|row| row.name.clone()));
            let rounds = if size > 1_000 { bench.rounds.div_ceil(5) } else { bench.rounds };
            in_turns(bench, &mut group, &rows, rounds);
            group.publish(&bench.pictures);
            if size >= LONG {
                long.gather(&group, [format!("netlatch, {size} {shape}"), "nft -f".to_owned()]);
            }
        }
    }
    long.keep(&bench.pictures);
}
