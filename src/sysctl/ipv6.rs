//! `io.netlatch.ipv6`: which interfaces speak IPv6, as the sysctls that say so.

use std::fmt;
use std::str::FromStr;

use super::key::{Key, Setting};
use crate::net::{Family, Origin};

/// Whether the container has IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ipv6 {
    /// As it is.
    #[default]
    Leave,
    /// Nowhere, not even `::1`.
    Disable,
    /// `::1`, and no other interface.
    LoopbackOnly,
    /// On every interface.
    Enable,
}

impl Ipv6 {
    /// Every mode, in the order of the documentation.
    pub const ALL: [Ipv6; 4] = [Ipv6::Leave, Ipv6::Disable, Ipv6::LoopbackOnly, Ipv6::Enable];

    /// The annotation's word.
    pub const fn name(self) -> &'static str {
        match self {
            Ipv6::Leave => "leave",
            Ipv6::Disable => "disable",
            Ipv6::LoopbackOnly => "loopback-only",
            Ipv6::Enable => "enable",
        }
    }
}

impl fmt::Display for Ipv6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not one of the words of [`Ipv6`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of `leave`, `disable`, `loopback-only`, `enable`")]
pub struct Ipv6Error(pub String);

impl FromStr for Ipv6 {
    type Err = Ipv6Error;

    fn from_str(word: &str) -> Result<Ipv6, Ipv6Error> {
        Ipv6::ALL.into_iter().find(|mode| mode.name() == word).ok_or_else(|| Ipv6Error(word.to_owned()))
    }
}

/// One write of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// One file.
    One(Setting),
    /// One file of each interface present but `lo`. Which those are is asked when it is applied, and again at
    /// poststart: Docker and user-namespaced podman attach the network after createRuntime.
    EachInterface {
        /// Below `net.ipv4.conf` or `net.ipv6.conf`.
        family: Family,
        /// The file's name.
        leaf: String,
        /// The value.
        value: String,
        /// Where it was asked for.
        origin: Origin,
    },
}

impl Write {
    /// Where it was asked for.
    pub fn origin(&self) -> &Origin {
        match self {
            Write::One(setting) => &setting.origin,
            Write::EachInterface { origin, .. } => origin,
        }
    }
}

/// `NAME = VALUE`, with `*` for each interface but `lo`.
impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Write::One(setting) => write!(f, "{} = {}", setting.key, setting.value),
            Write::EachInterface { family, leaf, value, origin: _ } => {
                write!(f, "net.{}.conf.*.{leaf} = {value}", super::key::word(*family))
            }
        }
    }
}

/// The file that turns IPv6 off.
pub const DISABLE_IPV6: &str = "disable_ipv6";

/// The writes for `mode`, in their order.
///
/// `default` comes first, so that an interface that arrives meanwhile is not born with IPv6. `all` reaches every
/// interface present and `default` (`addrconf_disable_ipv6`, net/ipv6/addrconf.c), but only at the moment it is
/// written: what it reads says nothing of any interface, so each is written, and later verified, by itself.
pub fn steps(mode: Ipv6, origin: &Origin) -> Vec<Write> {
    let one = |interface: &str, value: &str| {
        Write::One(Setting {
            key: Key::of_conf(Family::V6, interface, DISABLE_IPV6),
            value: value.to_owned(),
            origin: origin.clone(),
        })
    };
    let each = |value: &str| Write::EachInterface {
        family: Family::V6,
        leaf: DISABLE_IPV6.to_owned(),
        value: value.to_owned(),
        origin: origin.clone(),
    };
    match mode {
        Ipv6::Leave => Vec::new(),
        Ipv6::Disable => vec![one("default", "1"), one("all", "1"), each("1"), one("lo", "1")],
        // `all` is left as it is: either value, written, would reach an interface it must not reach.
        Ipv6::LoopbackOnly => vec![one("default", "1"), each("1"), one("lo", "0")],
        Ipv6::Enable => vec![one("all", "0"), one("default", "0"), each("0"), one("lo", "0")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(mode: Ipv6) -> Vec<String> {
        steps(mode, &Origin::Builtin("test")).iter().map(Write::to_string).collect()
    }

    #[test]
    fn words_and_modes_are_one_to_one() {
        for mode in Ipv6::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for word in ["", "off", "Disable", " disable", "loopback_only"] {
            assert!(word.parse::<Ipv6>().is_err(), "{word}");
        }
    }

    #[test]
    fn default_is_off_before_anything_else_is() {
        for mode in [Ipv6::Disable, Ipv6::LoopbackOnly] {
            assert_eq!(text(mode)[0], "net.ipv6.conf.default.disable_ipv6 = 1");
        }
        assert_eq!(text(Ipv6::Leave), [""; 0]);
    }

    #[test]
    fn every_interface_is_named_in_every_mode() {
        for (mode, lo, others) in [(Ipv6::Disable, 1, 1), (Ipv6::LoopbackOnly, 0, 1), (Ipv6::Enable, 0, 0)] {
            let text = text(mode);
            assert_eq!(text.last().unwrap(), &format!("net.ipv6.conf.lo.disable_ipv6 = {lo}"));
            assert!(text.contains(&format!("net.ipv6.conf.*.disable_ipv6 = {others}")), "{text:?}");
        }
    }
}
