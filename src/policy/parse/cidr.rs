//! Addresses and blocks as the Kubernetes API reads them, which is not how it is done elsewhere.
//!
//! Fields that are older than `StrictIPCIDRValidation` (a feature gate, off) go through `ParseCIDRSloppy` and
//! `ParseIPSloppy` of k8s.io/utils/net: Go 1.16's parser, in which leading zeros are no sign of octal. Newer ones, in
//! custom resources, through the CEL function `isCIDR` (k8s.io/apiserver/pkg/cel/library/cidr.go), which is Go's
//! `netip.ParsePrefix` without mapped addresses. Both let bits behind the prefix pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::document::{Place, shown};
use crate::net::{Cidr, Family, bits_of};

/// A block of an `ipBlock`.
pub(super) fn legacy(place: &Place<'_>) -> Option<Cidr> {
    let text = place.string()?;
    let Some((addr, len)) = split(text) else {
        place.refuse(format!("{} is no CIDR block such as 10.9.8.0/24 or 2001:db8::/64", shown(text)));
        return None;
    };
    // net.IPNet.Contains goes by To4 of the masked address: a mapped block is the IPv4 block in it. With a prefix below
    // 96 the mask takes the mark away.
    let block = match addr {
        IpAddr::V6(v6) if len >= 96 => match v6.to_ipv4_mapped() {
            Some(v4) => Cidr::containing(IpAddr::V4(v4), len - 96),
            None => Cidr::containing(addr, len),
        },
        IpAddr::V4(_) | IpAddr::V6(_) => Cidr::containing(addr, len),
    }?;
    if Cidr::parse_masked(text).is_err() {
        place.warn(format!("leading zeros are read as decimal: this is {block}"));
    } else if block.family() != Family::of(addr) {
        place.warn(format!("an IPv4-mapped block is read as the IPv4 block {block}"));
    }
    Some(block)
}

/// A block of `networks`.
pub(super) fn strict(place: &Place<'_>) -> Option<Cidr> {
    /// `maxLength` of the CRD's type `CIDR`.
    const LONGEST: usize = 43;
    let text = place.string()?;
    let block = text
        .split_once('/')
        .filter(|_| text.len() <= LONGEST)
        // `Cidr` takes a bare address too, but not leading zeros, zones or signs.
        .and_then(|(addr, _)| Some((addr.parse::<IpAddr>().ok()?, Cidr::parse_masked(text).ok()?)))
        .filter(|(addr, _)| !matches!(addr, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()));
    if block.is_none() {
        place.refuse(format!("{} is no CIDR block such as 10.0.0.0/8 or fd00::/8", shown(text)));
    }
    block.map(|(_, block)| block)
}

/// An address of the inventory.
pub(super) fn address(place: &Place<'_>) -> Option<IpAddr> {
    let text = place.string()?;
    let parsed = parse_address(text);
    if parsed.is_none() {
        place.refuse(format!("{} is no IP address", shown(text)));
    }
    parsed
}

/// `ParseIPSloppy`. Mapped addresses are IPv4 to Go.
pub(super) fn parse_address(text: &str) -> Option<IpAddr> {
    match text.bytes().find(|byte| matches!(byte, b'.' | b':'))? {
        b'.' => sloppy_v4(text).map(IpAddr::V4),
        _ => sloppy_v6(text).map(|v6| v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)),
    }
}

/// `ParseCIDRSloppy`: the address as it is written, and the prefix length.
fn split(text: &str) -> Option<(IpAddr, u8)> {
    let (addr, len) = text.split_once('/')?;
    let addr = sloppy_v4(addr).map(IpAddr::V4).or_else(|| sloppy_v6(addr).map(IpAddr::V6))?;
    let len = decimal(len)?;
    u8::try_from(len).ok().filter(|len| *len <= Family::of(addr).bits()).map(|len| (addr, len))
}

/// Go's `dtoi`: digits, below 0xFFFFFF, however many zeros stand before them.
fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.trim_start_matches('0')).and_then(|rest| match rest {
        "" => Some(0),
        rest => rest.parse().ok().filter(|number| *number < 0xFF_FFFF),
    })
}

fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.split('.').map(|part| decimal(part).and_then(|number| u8::try_from(number).ok()));
    let octets = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// RFC 4291, with any number of zeros before a group or an octet.
fn sloppy_v6(text: &str) -> Option<Ipv6Addr> {
    if text.len() > 256 || !text.contains(':') {
        return None;
    }
    let shortened: Option<Vec<String>> = text
        .split(':')
        .map(|group| {
            if group.contains('.') {
                return sloppy_v4(group).map(|v4| v4.to_string());
            }
            let rest = group.trim_start_matches('0');
            Some(if rest.is_empty() && !group.is_empty() { "0".to_owned() } else { rest.to_owned() })
        })
        .collect();
    shortened?.join(":").parse().ok()
}

/// Whether `inner` is a strict part of `outer`: what the API wants of `except`.
pub(super) fn is_strictly_within(inner: &Cidr, outer: &Cidr) -> bool {
    let (range, first) = (outer.range(), bits_of(inner.first()));
    outer.family() == inner.family()
        && inner.prefix_len() > outer.prefix_len()
        && range.first <= first
        && first <= range.last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_go_1_16_read_them() {
        for (text, meant) in [
            ("10.0.0.5/24", "10.0.0.0/24"),
            ("010.008.011.012/32", "10.8.11.12/32"),
            ("10.0.0.0/08", "10.0.0.0/8"),
            ("10.0.0.0/000000000000008", "10.0.0.0/8"),
            ("0000000000000001.2.3.4/32", "1.2.3.4/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("FE80:0abc:0:0:0:0:0:0/64", "fe80:abc::/64"),
            ("02001:00db8::/32", "2001:db8::/32"),
            ("::ffff:010.0.0.0/104", "::ffff:10.0.0.0/104"),
            ("::1.2.3.4/128", "::102:304/128"),
            ("1::/16", "1::/16"),
            ("1:2:3:4:5:6:7:8/128", "1:2:3:4:5:6:7:8/128"),
        ] {
            let (addr, len) = split(text).unwrap_or_else(|| panic!("{text}"));
            let (wanted, wanted_len) = meant.split_once('/').unwrap();
            let wanted = Cidr::containing(wanted.parse().unwrap(), wanted_len.parse().unwrap());
            assert_eq!(Cidr::containing(addr, len), wanted, "{text}");
        }
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/ 8",
            "10.0.0/8",
            "10.0.0.0.0/8",
            "10.0.0.256/8",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "0x10.0.0.0/8",
            "10..0.0/8",
            "10.0.0.0/255.0.0.0",
            "::/129",
            "fe80::1%eth0/64",
            "1::2::3/64",
            "12345::/16",
            "g::/16",
            ":1/16",
            "1:2:3:4:5:6:7/64",
            "1:2:3:4:5:6:7:8:9/64",
            "1:2:3:4:5:6:7::8/64:",
            "1.2.3.4::/64",
            "::ffff:1.2.3/96",
            "[::]/0",
            "10.0.0.0/16777224",
            "10.0.0.0/4294967304",
            "١.2.3.4/8",
        ] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    #[test]
    fn a_mapped_address_of_the_inventory_is_ipv4_and_leading_zeros_are_decimal() {
        for (text, meant) in
            [("::ffff:10.0.0.1", "10.0.0.1"), ("010.0.0.1", "10.0.0.1"), ("2001:DB8::01", "2001:db8::1")]
        {
            assert_eq!(parse_address(text), meant.parse().ok(), "{text}");
        }
        for text in ["", "x", "10.0.0.1/32", "fe80::1%lo", "1:2"] {
            assert_eq!(parse_address(text), None, "{text}");
        }
    }
}
