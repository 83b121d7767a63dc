//! What the integration tests stand on: namespaces that die with the test, a far side that owns every address and
//! hears every packet, senders, and the hook run the way a runtime runs it.
//!
//! The judge is always the other side: a packet that must not leave is looked for where it would arrive. `ip` and
//! `nft` are used here as tools and as second opinions; the hook itself uses neither.

// Every test file compiles this module and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub(crate) mod bundle;
pub(crate) mod case;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod container;
pub(crate) mod containerd;
pub(crate) mod counted;
pub(crate) mod cri;
pub(crate) mod dice;
pub(crate) mod docker;
pub(crate) mod drawn;
pub(crate) mod engine;
pub(crate) mod examples;
pub(crate) mod fault;
pub(crate) mod fork;
pub(crate) mod game;
pub(crate) mod host;
pub(crate) mod installed;
pub(crate) mod link;
pub(crate) mod live;
pub(crate) mod machine;
pub(crate) mod namespace;
pub(crate) mod newcomer;
pub(crate) mod outside;
pub(crate) mod play;
pub(crate) mod podman;
pub(crate) mod probe;
pub(crate) mod random_policy;
pub(crate) mod raw;
pub(crate) mod schema;
pub(crate) mod sctp;
pub(crate) mod servers;
pub(crate) mod sniffer;
pub(crate) mod tiers;
pub(crate) mod traffic;
pub(crate) mod wire;
pub(crate) mod world;
pub(crate) mod xdp;

pub(crate) use container::{Container, hook};
pub(crate) use namespace::Namespace;
pub(crate) use probe::{Outcome, Probe};
pub(crate) use world::World;
