//! The guides for those who use Netlatch: each a Markdown file beside this one, rendered here. `netlatch help NAME` prints them,
//! and the man pages are made of them.
//!
//! A link to another guide is written by a name that the file itself defines last, as a relative path, so that it works
//! wherever the file is shown. Here the same names are defined before the text, as paths of this crate, and the first wins.
//!
//! Every block of code is an example that is run, or says in a comment before it why not: tests/support/examples.rs. README has a
//! row for each guide.

/// A guide, by the name under which it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Guide {
    /// One word.
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    /// Markdown.
    pub text: &'static str,
}

/// The guide of a name.
pub fn guide(name: &str) -> Option<&'static Guide> {
    GUIDES.iter().find(|guide| guide.name == name)
}

/// The names that links of the guides go by.
macro_rules! links {
    () => {
        "[annotations]: crate::docs::annotations
[commands]: crate::docs::commands
[configuration]: crate::docs::configuration
[engines]: crate::docs::engines
[exit-codes]: crate::docs::exit_codes
[figures]: crate::docs::figures
[host-side]: crate::docs::host_side
[identity]: crate::docs::annotations#who-the-container-is
[limits]: crate::docs::limits
[lists]: crate::docs::lists
[logs]: crate::docs::logs
[not-covered]: crate::docs::not_covered
[output]: crate::docs::output
[packets]: crate::docs::packets
[policies]: crate::docs::policies
[recipe-builds]: crate::docs::recipe_builds
[recipe-containerd]: crate::docs::recipe_containerd
[recipe-cri-o]: crate::docs::recipe_cri_o
[recipe-podman]: crate::docs::recipe_podman
[recipe-policies]: crate::docs::recipe_policies
[security]: crate::docs::security
[timings]: crate::docs::timings
[understanding]: crate::docs::understanding
"
    };
}

/// A module for each guide, and the list of them.
macro_rules! guides {
    ($($module:ident $name:literal $about:literal;)+) => {
        $(
            #[doc = links!()]
            #[doc = include_str!(concat!($name, ".md"))]
            pub mod $module {}
        )+

        /// Every guide, in the order in which one would read them.
        pub const GUIDES: &[Guide] = &[
            $(Guide { name: $name, about: $about, text: include_str!(concat!($name, ".md")) },)+
        ];
    };
}

guides! {
    recipe_podman "recipe-podman" "podman, one container, two allowed hosts: from start to finish";
    recipe_builds "recipe-builds" "a sandbox for untrusted builds: from start to finish";
    recipe_cri_o "recipe-cri-o" "a CRI-O node: from start to finish";
    recipe_containerd "recipe-containerd" "a containerd node: from start to finish";
    recipe_policies "recipe-policies" "NetworkPolicies that are there already: from start to finish";
    engines "engines" "how podman, containerd, CRI-O, Docker, runc and crun call the hook";
    annotations "annotations" "what a container may ask for, and who it is";
    lists "lists" "how lists of peers and ports are written";
    configuration "configuration" "what holds for every container: /etc/netlatch/config.yaml";
    host_side "host-side" "the same rules where a container with CAP_NET_ADMIN cannot reach them";
    policies "policies" "Kubernetes policies on one host";
    packets "packets" "what a packet meets, rule by rule";
    understanding "understanding" "why something does not connect, and how to learn a list";
    commands "commands" "what each command shows and takes";
    output "output" "what commands print: JSON and its keys, widths, colours";
    logs "logs" "what is logged of each stage, and where";
    exit_codes "exit-codes" "what each exit code means, and where failures are told";
    security "security" "what holds, what does not, and the test that shows it";
    not_covered "not-covered" "what a container can do that no rule governs";
    limits "limits" "how large everything may be";
    timings "timings" "where the time of a start goes";
    figures "figures" "what it costs, as measured";
}
