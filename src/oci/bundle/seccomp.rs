//! What a seccomp filter says of making sockets.
//!
//! Only what decides whether a socket of some family can be made is kept: three of the filter's system calls. The question
//! is never "is there a rule against it" but "can it be had all the same": filters miss in ways that their authors did not
//! mean, and each of them was seen to work (runc 1.1.5, libseccomp 2.5.4, Linux 6.18).

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

/// `linux.seccomp`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seccomp {
    /// Whether what no rule names passes.
    default_permits: bool,
    /// One of the architectures has socketcall(2), whose arguments are behind a pointer.
    multiplexes: bool,
    rules: Vec<Rule>,
}

/// How a socket can be made past, or with the leave of, a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// There is no filter.
    Unfiltered,
    /// The filter lets socket(2) make it.
    Permitted,
    /// The filter compares the 64 bits of a register where the kernel takes 32 (`SYSCALL_DEFINE3(socket, int, family, ...)`),
    /// and lets the family pass with a bit set above those.
    HighBits,
    /// socket(2) is filtered, and socketcall(2) is not: 32-bit programs, and all on some architectures. libseccomp gives
    /// socketcall(2) every rule for socket(2) too, without its condition on the family, which is behind a pointer there.
    Multiplexed,
    /// socket(2) is filtered, and io_uring is not: `IORING_OP_SOCKET` makes sockets without a system call (Linux 5.19).
    IoUring,
}

impl Seccomp {
    /// How a socket of `family` can be made under `filter`; `None` where it cannot.
    pub fn passage(filter: Option<&Seccomp>, family: u32) -> Option<Passage> {
        let Some(filter) = filter else { return Some(Passage::Unfiltered) };
        if filter.lets(Call::Socket, First::Exactly(family)) {
            Some(Passage::Permitted)
        } else if filter.lets(Call::Socket, First::LowBits(family)) {
            Some(Passage::HighBits)
        } else if filter.multiplexes && filter.lets_socketcall() {
            Some(Passage::Multiplexed)
        } else if filter.lets(Call::IoUringSetup, First::Anything) {
            Some(Passage::IoUring)
        } else {
            None
        }
    }

    /// Whether socketcall(2) makes sockets. Its first argument says what is to be done, and the rules for socket(2) have
    /// lost theirs on the way (`x86_rule_add`, `abi_rule_add` in libseccomp).
    fn lets_socketcall(&self) -> bool {
        let first = First::Exactly(SYS_SOCKET);
        let about_it = |rule: &Rule| rule.names(Call::Socket) || rule.names(Call::Multiplexed);
        let mut rules = self.rules.iter().filter(|rule| about_it(rule));
        if self.default_permits {
            let sure = |rule: &Rule, arg: &Arg| arg.always(first) || rule.names(Call::Socket) && arg.index == 0;
            !rules.any(|rule| !rule.permits && rule.args.iter().all(|arg| sure(rule, arg)))
        } else {
            rules.any(|rule| rule.permits && (rule.names(Call::Socket) || rule.may_match(first)))
        }
    }

    /// Whether a call passes with some choice of what `first` leaves open, and of all other arguments.
    fn lets(&self, call: Call, first: First) -> bool {
        let mut rules = self.rules.iter().filter(|rule| rule.names(call));
        if self.default_permits {
            !rules.any(|rule| !rule.permits && rule.args.iter().all(|arg| arg.always(first)))
        } else {
            rules.any(|rule| rule.permits && rule.may_match(first))
        }
    }
}

/// The system calls that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Socket,
    /// socketcall(2).
    Multiplexed,
    IoUringSetup,
}

/// include/uapi/linux/net.h.
const SYS_SOCKET: u32 = 1;

/// What is known of a call's first argument.
#[derive(Clone, Copy, Debug)]
enum First {
    /// All 64 bits.
    Exactly(u32),
    /// The lower 32.
    LowBits(u32),
    Anything,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    calls: Calls,
    permits: bool,
    args: Vec<Arg>,
}

impl Rule {
    fn names(&self, call: Call) -> bool {
        self.calls.0 & Calls::bit(call) != 0
    }

    /// Conditions on one argument that stands twice are alternatives to runc and crun, and all to hold to others.
    fn may_match(&self, first: First) -> bool {
        let mut about_first = self.args.iter().filter(|arg| arg.index == 0).peekable();
        let repeated = about_first.clone().nth(1).is_some();
        match about_first.peek() {
            None => true,
            Some(_) if repeated => about_first.any(|arg| arg.sometimes(first)),
            Some(_) => about_first.all(|arg| arg.sometimes(first)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default, rename = "valueTwo")]
    value_two: Option<u64>,
    op: String,
}

/// Above the lower 32 bits.
const HIGH: u64 = !(u32::MAX as u64);

impl Arg {
    /// Whether the condition holds whatever is not known. What cannot be told does not.
    fn always(&self, first: First) -> bool {
        let (least, greatest) = match first {
            _ if self.index != 0 => return false,
            First::Anything => return false,
            First::Exactly(value) => (u64::from(value), u64::from(value)),
            First::LowBits(value) => (u64::from(value), HIGH | u64::from(value)),
        };
        match self.op.as_str() {
            "SCMP_CMP_EQ" => least == greatest && least == self.value,
            // Of all numbers between the two, those with the same lower bits.
            "SCMP_CMP_NE" => match first {
                First::LowBits(value) => value != self.value as u32,
                First::Exactly(_) | First::Anything => least != self.value,
            },
            "SCMP_CMP_LT" => greatest < self.value,
            "SCMP_CMP_LE" => greatest <= self.value,
            "SCMP_CMP_GT" => least > self.value,
            "SCMP_CMP_GE" => least >= self.value,
            "SCMP_CMP_MASKED_EQ" => {
                let known = least == greatest || self.value & HIGH == 0;
                known && least & self.value == self.value_two.unwrap_or(0)
            }
            _ => false,
        }
    }

    /// Whether the condition holds for some value of what is not known. What cannot be told may.
    fn sometimes(&self, first: First) -> bool {
        let (least, greatest) = match first {
            _ if self.index != 0 => return true,
            First::Anything => return true,
            First::Exactly(value) => (u64::from(value), u64::from(value)),
            First::LowBits(value) => (u64::from(value), HIGH | u64::from(value)),
        };
        match self.op.as_str() {
            "SCMP_CMP_EQ" => self.value == least || least != greatest && self.value as u32 == least as u32,
            "SCMP_CMP_NE" => least != greatest || self.value != least,
            "SCMP_CMP_LT" => least < self.value,
            "SCMP_CMP_LE" => least <= self.value,
            "SCMP_CMP_GT" => greatest > self.value,
            "SCMP_CMP_GE" => greatest >= self.value,
            "SCMP_CMP_MASKED_EQ" => {
                let two = self.value_two.unwrap_or(0);
                let open = if least == greatest { 0 } else { HIGH };
                least & self.value & !open == two & !open && two & open & !self.value == 0
            }
            _ => true,
        }
    }
}

/// Whether an action lets the call through, or leaves it to somebody who may (`SCMP_ACT_NOTIFY`, `SCMP_ACT_TRACE`).
fn permits(action: &str) -> bool {
    !matches!(
        action,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_PROCESS" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_TRAP" | "SCMP_ACT_ERRNO"
    )
}

/// The architectures that have socketcall(2); arch/*/include/uapi/asm/unistd.h, and 32-bit x86 beside the 64-bit one.
fn multiplexes(architecture: &str) -> bool {
    let name = architecture.strip_prefix("SCMP_ARCH_").unwrap_or_default();
    name == "X86" || ["S390", "PPC", "MIPS", "PARISC", "SH", "M68K"].iter().any(|known| name.starts_with(known))
}

/// Which of the calls that matter a rule names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calls(u8);

impl Calls {
    const fn bit(call: Call) -> u8 {
        1 << call as u8
    }
}

/// A profile names four hundred calls: none is kept but as a bit.
impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Calls, D::Error> {
        deserializer.deserialize_any(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Calls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names of system calls")
    }

    fn visit_unit<E>(self) -> Result<Calls, E> {
        Ok(Calls::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Calls, A::Error> {
        let mut calls = Calls::default();
        while let Some(Name(call)) = names.next_element()? {
            calls.0 |= call.map_or(0, Calls::bit);
        }
        Ok(calls)
    }
}

struct Name(Option<Call>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(OneName)
    }
}

struct OneName;

impl Visitor<'_> for OneName {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a system call")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(Name(match name {
            "socket" => Some(Call::Socket),
            "socketcall" => Some(Call::Multiplexed),
            "io_uring_setup" => Some(Call::IoUringSetup),
            _ => None,
        }))
    }
}

/// `linux.seccomp` as it is written.
#[derive(Deserialize)]
pub(super) struct Written {
    #[serde(default, rename = "defaultAction")]
    default_action: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Option<Vec<WrittenRule>>,
}

#[derive(Deserialize)]
struct WrittenRule {
    #[serde(default)]
    names: Calls,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    args: Option<Vec<Arg>>,
}

impl From<Written> for Seccomp {
    fn from(written: Written) -> Seccomp {
        let rules = written.syscalls.unwrap_or_default().into_iter().filter(|rule| rule.names != Calls::default());
        let rule = |rule: WrittenRule| Rule {
            calls: rule.names,
            permits: permits(&rule.action.unwrap_or_default()),
            args: rule.args.unwrap_or_default(),
        };
        Seccomp {
            default_permits: permits(&written.default_action.unwrap_or_default()),
            multiplexes: written.architectures.iter().flatten().any(|name| multiplexes(name)),
            rules: rules.map(rule).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const VSOCK: u32 = 40;

    fn passage(profile: Value) -> Option<Passage> {
        let written: Written = serde_json::from_value(profile.clone()).unwrap_or_else(|e| panic!("{profile}: {e}"));
        Seccomp::passage(Some(&written.into()), VSOCK)
    }

    fn rule(names: &[&str], action: &str, args: Value) -> Value {
        json!({"names": names, "action": format!("SCMP_ACT_{action}"), "args": args})
    }

    fn arg(op: &str, value: u64, two: u64) -> Value {
        json!({"index": 0, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{op}")})
    }

    fn profile(default: &str, rules: Vec<Value>) -> Value {
        json!({"defaultAction": format!("SCMP_ACT_{default}"), "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
    }

    #[test]
    fn no_filter_holds_nothing() {
        assert_eq!(Seccomp::passage(None, VSOCK), Some(Passage::Unfiltered));
        assert_eq!(passage(json!({})), Some(Passage::Permitted));
        assert_eq!(passage(profile("ALLOW", vec![])), Some(Passage::Permitted));
    }

    #[test]
    fn a_list_of_what_is_allowed_denies_what_is_not_in_it() {
        assert_eq!(passage(profile("ERRNO", vec![])), None);
        let only_ip = ["EQ", "EQ"].map(|op| rule(&["socket"], "ALLOW", json!([arg(op, 2, 0)])));
        assert_eq!(passage(profile("ERRNO", only_ip.to_vec())), None);
        let all = rule(&["read", "socket"], "ALLOW", Value::Null);
        assert_eq!(passage(profile("ERRNO", vec![all])), Some(Passage::Permitted));
        // podman: any family, unless for the audit protocol.
        let other = json!([{"index": 2, "value": 9, "op": "SCMP_CMP_NE"}]);
        assert_eq!(passage(profile("ERRNO", vec![rule(&["socket"], "ALLOW", other)])), Some(Passage::Permitted));
        // Alternatives, as runc takes an argument that stands twice.
        let either = json!([arg("EQ", 2, 0), arg("EQ", 40, 0)]);
        assert_eq!(passage(profile("ERRNO", vec![rule(&["socket"], "ALLOW", either)])), Some(Passage::Permitted));
        for action in ["LOG", "NOTIFY", "TRACE"] {
            let left = rule(&["socket"], action, json!([]));
            assert_eq!(passage(profile("KILL_PROCESS", vec![left])), Some(Passage::Permitted), "{action}");
        }
    }

    #[test]
    fn a_comparison_of_64_bits_lets_the_family_pass_with_a_high_bit() {
        // Docker's profiles of 2022 and 2026.
        let not_vsock = rule(&["socket"], "ALLOW", json!([arg("NE", 40, 0)]));
        assert_eq!(passage(profile("ERRNO", vec![not_vsock])), Some(Passage::HighBits));
        let around = [("LT", 38), ("EQ", 39), ("GT", 40)];
        let around = around.map(|(op, value)| rule(&["socket"], "ALLOW", json!([arg(op, value, 0)])));
        assert_eq!(passage(profile("ERRNO", around.to_vec())), Some(Passage::HighBits));
        let equal = rule(&["socket"], "ERRNO", json!([arg("EQ", 40, 0)]));
        assert_eq!(passage(profile("ALLOW", vec![equal])), Some(Passage::HighBits));
        let wide = rule(&["socket"], "ERRNO", json!([arg("MASKED_EQ", u64::MAX, 40)]));
        assert_eq!(passage(profile("ALLOW", vec![wide])), Some(Passage::HighBits));
    }

    #[test]
    fn what_looks_at_the_lower_bits_alone_denies() {
        let masked = |action: &str, two| rule(&["socket"], action, json!([arg("MASKED_EQ", 0xffff_ffff, two)]));
        let no_ring = rule(&["io_uring_setup"], "ERRNO", json!([]));
        assert_eq!(passage(profile("ALLOW", vec![masked("ERRNO", 40), no_ring.clone()])), None);
        assert_eq!(passage(profile("ALLOW", vec![masked("ERRNO", 39), no_ring.clone()])), Some(Passage::Permitted));
        assert_eq!(passage(profile("ERRNO", vec![masked("ALLOW", 2)])), None);
        assert_eq!(passage(profile("ERRNO", vec![masked("ALLOW", 40)])), Some(Passage::Permitted));
        for (op, value) in [("GE", 40), ("GT", 39), ("LE", u64::MAX)] {
            let range = rule(&["socket"], "ERRNO", json!([arg(op, value, 0)]));
            assert_eq!(passage(profile("ALLOW", vec![range, no_ring.clone()])), None, "{op}");
        }
        // A condition on another argument too says nothing certain.
        let both = rule(&["socket"], "ERRNO", json!([arg("GE", 40, 0), {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]));
        assert_eq!(passage(profile("ALLOW", vec![both, no_ring])), Some(Passage::Permitted));
    }

    #[test]
    fn io_uring_makes_what_socket_does_not() {
        let masked = rule(&["socket"], "ERRNO", json!([arg("MASKED_EQ", 0xffff_ffff, 40)]));
        assert_eq!(passage(profile("ALLOW", vec![masked.clone()])), Some(Passage::IoUring));
        let no_ring = rule(&["io_uring_setup"], "KILL", json!([]));
        assert_eq!(passage(profile("ALLOW", vec![masked, no_ring])), None);
        let ring = rule(&["io_uring_setup"], "ALLOW", json!([]));
        assert_eq!(passage(profile("ERRNO", vec![ring])), Some(Passage::IoUring));
    }

    /// Each of these was run: int 0x80 in a container of runc.
    #[test]
    fn socketcall_passes_where_any_condition_on_the_family_lets_socket_pass() {
        let on_x86 = |default: &str, rules: Vec<Value>| {
            let mut profile = profile(default, rules);
            profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
            passage(profile)
        };
        let allow = |args: Value| rule(&["socket"], "ALLOW", args);
        assert_eq!(on_x86("ERRNO", vec![]), None);
        for two in [arg("EQ", 2, 0), arg("MASKED_EQ", 0xffff_ffff, 2)] {
            assert_eq!(on_x86("ERRNO", vec![allow(json!([two]))]), Some(Passage::Multiplexed), "{two}");
        }
        assert_eq!(on_x86("ERRNO", vec![rule(&["socketcall"], "ALLOW", json!([]))]), Some(Passage::Multiplexed));
        let bind_alone = rule(&["socketcall"], "ALLOW", json!([arg("EQ", 2, 0)]));
        assert_eq!(on_x86("ERRNO", vec![bind_alone]), None);

        let no_ring = || rule(&["io_uring_setup"], "ERRNO", json!([]));
        let masked = arg("MASKED_EQ", 0xffff_ffff, 40);
        let deny = |names: &[&str], args: Value| rule(names, "ERRNO", args);
        assert_eq!(on_x86("ALLOW", vec![deny(&["socket"], json!([masked])), no_ring()]), None);
        let of_one_type = json!([masked, {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]);
        let denies = |args: Value| vec![deny(&["socket"], args), deny(&["socketcall"], json!([])), no_ring()];
        assert_eq!(on_x86("ALLOW", denies(json!([masked]))), None);
        assert_eq!(on_x86("ALLOW", denies(of_one_type)), Some(Passage::Permitted));
        // Without 32-bit programs nothing of it matters.
        assert_eq!(passage(profile("ERRNO", vec![allow(json!([arg("EQ", 2, 0)]))])), None);
    }

    proptest::proptest! {
        /// Both answers against a search through numbers that are told apart by nothing but what stands in the condition.
        #[test]
        fn what_is_said_of_a_condition_is_so(
            op in proptest::sample::select(&["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"][..]),
            (high, low) in (0u64..3, 0u64..4), (mask_high, mask_low) in (0u64..3, 0u64..4), family in 0u32..4,
        ) {
            let op_name = format!("SCMP_CMP_{op}");
            let (value, two) = ((high << 32) | low, (mask_high << 32) | mask_low);
            let arg = Arg { index: 0, value, value_two: Some(two), op: op_name };
            let holds = |x: u64| match op {
                "EQ" => x == value, "NE" => x != value, "LT" => x < value, "LE" => x <= value,
                "GT" => x > value, "GE" => x >= value, _ => x & value == two,
            };
            let numbers = [0u64, 1, 2, 3, u64::from(u32::MAX)].map(|high| (high << 32) | u64::from(family));
            proptest::prop_assert_eq!(arg.sometimes(First::LowBits(family)), numbers.into_iter().any(holds));
            proptest::prop_assert_eq!(arg.always(First::LowBits(family)), numbers.into_iter().all(holds));
            proptest::prop_assert_eq!(arg.sometimes(First::Exactly(family)), holds(family.into()));
            proptest::prop_assert_eq!(arg.always(First::Exactly(family)), holds(family.into()));
        }
    }
}
