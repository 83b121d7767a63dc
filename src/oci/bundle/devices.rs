//! Which devices a container can open.

use serde::Deserialize;

/// `linux.devices` and `linux.resources.devices`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    nodes: Vec<Node>,
    rules: Vec<Rule>,
}

/// A device node that the runtime makes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Node {
    path: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    major: Option<i64>,
    #[serde(default)]
    minor: Option<i64>,
}

/// A rule of the device cgroup. Of those that match the last decides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Rule {
    allow: bool,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    major: Option<i64>,
    #[serde(default)]
    minor: Option<i64>,
    #[serde(default)]
    access: Option<String>,
}

impl Node {
    fn is_char(&self) -> bool {
        matches!(self.kind.as_deref(), Some("c" | "u"))
    }
}

impl Rule {
    fn is_any(number: Option<i64>) -> bool {
        number.is_none_or(|number| number < 0)
    }

    /// Whether the rule concerns opening; one about mknod(2) alone does not.
    fn opens(&self) -> bool {
        self.access.as_deref().is_none_or(|access| access.contains(['r', 'w']))
    }

    fn is_about_all(&self) -> bool {
        self.opens()
            && matches!(self.kind.as_deref(), None | Some("" | "a"))
            && Rule::is_any(self.major)
            && Rule::is_any(self.minor)
    }

    fn is_about(&self, major: i64, minor: Option<i64>) -> bool {
        let kind = matches!(self.kind.as_deref(), None | Some("" | "a" | "c" | "u"));
        let is = |wanted: Option<i64>, number| Rule::is_any(wanted) || wanted == Some(number);
        self.opens() && kind && is(self.major, major) && minor.is_none_or(|minor| is(self.minor, minor))
    }
}

impl Devices {
    pub(super) fn new(nodes: Vec<Node>, rules: Vec<Rule>) -> Devices {
        Devices { nodes, rules }
    }

    /// The rule that lets every device be opened.
    pub fn all(&self) -> Option<usize> {
        let last = self.rules.iter().rposition(Rule::is_about_all)?;
        self.rules[last].allow.then_some(last)
    }

    /// The node of a character device, by its numbers; without a minor, of any that the driver has.
    pub fn node(&self, major: i64, minor: Option<i64>) -> Option<usize> {
        let is = |node: &Node| node.major == Some(major) && minor.is_none_or(|minor| node.minor == Some(minor));
        self.nodes.iter().position(|node| node.is_char() && is(node))
    }

    /// The first node whose path is `folder` or below it: of drivers whose numbers are given out as they load.
    pub fn node_below(&self, folder: &str) -> Option<usize> {
        let below = |path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.nodes.iter().position(|node| below(&node.path))
    }

    /// The first node of a numbered series, such as /dev/tap0.
    pub fn node_numbered(&self, prefix: &str) -> Option<usize> {
        let numbered = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        self.nodes.iter().position(|node| node.path.strip_prefix(prefix).is_some_and(numbered))
    }

    /// The rule that lets a character device be opened, where it names the device: who is allowed all is said elsewhere.
    pub fn rule(&self, major: i64, minor: Option<i64>) -> Option<usize> {
        let last = self.rules.iter().rposition(|rule| rule.is_about(major, minor))?;
        (self.rules[last].allow && !self.rules[last].is_about_all()).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn devices(nodes: Value, rules: Value) -> Devices {
        Devices::new(serde_json::from_value(nodes).unwrap(), serde_json::from_value(rules).unwrap())
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let none = json!({"allow": false, "access": "rwm"});
        let all = json!({"allow": true, "type": "a", "major": -1, "minor": -1, "access": "rwm"});
        let tun = json!({"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"});
        let of = |rules: &[&Value]| devices(json!([]), json!(rules));
        assert_eq!(of(&[&none, &tun]).rule(10, Some(200)), Some(1));
        assert_eq!(of(&[&none, &tun]).rule(10, Some(229)), None);
        assert_eq!(of(&[&tun, &none]).rule(10, Some(200)), None);
        assert_eq!((of(&[&none]).all(), of(&[&none, &all]).all(), of(&[&all, &none]).all()), (None, Some(1), None));
        // Who is allowed everything is allowed no device by name.
        assert_eq!(of(&[&none, &all]).rule(10, Some(200)), None);
        // To make a node is not to open it. Engines allow that for all.
        let mknod = json!({"allow": true, "type": "c", "access": "m"});
        assert_eq!((of(&[&none, &mknod]).all(), of(&[&none, &mknod]).rule(10, Some(200))), (None, None));
        let whole = json!({"allow": true, "type": "c", "major": 231, "access": "rwm"});
        assert_eq!(of(&[&none, &whole]).rule(231, None), Some(1));
        assert_eq!(of(&[]).all(), None);
    }

    #[test]
    fn nodes_are_found_by_number_and_by_place() {
        let nodes = json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
            {"path": "/dev/sda", "type": "b", "major": 10, "minor": 200},
            {"path": "/dev/my-tunnel", "type": "c", "major": 10, "minor": 200},
            {"path": "/dev/vfio/12", "type": "c", "major": 240, "minor": 0},
            {"path": "/dev/tap17", "type": "c"},
        ]);
        let devices = devices(nodes, json!([]));
        assert_eq!(devices.node(10, Some(200)), Some(2));
        assert_eq!(devices.node(10, Some(1)), None);
        assert_eq!(devices.node(240, None), Some(3));
        assert_eq!((devices.node_below("/dev/vfio"), devices.node_below("/dev/vfi")), (Some(3), None));
        assert_eq!((devices.node_numbered("/dev/tap"), devices.node_numbered("/dev/vfio/1")), (Some(4), Some(3)));
    }
}
