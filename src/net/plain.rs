//! Addresses and blocks in their plain form, read in one pass.
//!
//! The standard library's parser tries each group of an IPv6 address as an IPv4 address first: 200 ns, and of a list of
//! 100,000 blocks that is as much as half of what the kernel takes to load it. What is read here it reads alike
//! (`what_is_read_is_what_the_standard_library_reads`); everything else is left to it, for its errors too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Cidr;

/// An address, or a block without host bits; `None` where it is anything else, or written in another way.
pub fn plain_block(text: &str) -> Option<Cidr> {
    let bytes = text.as_bytes();
    let slash = bytes.iter().rev().take(4).position(|byte| *byte == b'/').map(|back| bytes.len() - 1 - back);
    let addr = plain_address(&bytes[..slash.unwrap_or(bytes.len())])?;
    let Some(slash) = slash else { return Some(Cidr::host(addr)) };
    let len = decimal(&bytes[slash + 1..])?;
    Cidr::containing(addr, len).filter(|block| block.first() == addr)
}

/// An address as of [`plain_block`].
fn plain_address(bytes: &[u8]) -> Option<IpAddr> {
    // No group of either family is longer.
    if bytes.iter().take(5).any(|byte| *byte == b':') { v6(bytes).map(IpAddr::V6) } else { v4(bytes).map(IpAddr::V4) }
}

/// A number of at most 255, without leading zeros: with them it would be octal to some readers.
fn decimal(bytes: &[u8]) -> Option<u8> {
    if bytes.is_empty() || bytes.len() > 3 || (bytes[0] == b'0' && bytes.len() > 1) {
        return None;
    }
    let mut value = 0_u32;
    for byte in bytes {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        value = value * 10 + digit;
    }
    u8::try_from(value).ok()
}

/// Four numbers of at most 255, without leading zeros.
fn v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    // How many octets were read, and of the next its value and its digits.
    let (mut bits, mut octets) = (0_u32, 0);
    let (mut value, mut digits) = (0_u32, 0);
    for byte in bytes {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit <= 9 {
            if digits > 0 && value == 0 {
                return None;
            }
            value = value * 10 + digit;
            digits += 1;
            if value > 255 {
                return None;
            }
        } else if *byte == b'.' && digits > 0 && octets < 3 {
            bits = bits << 8 | value;
            octets += 1;
            (value, digits) = (0, 0);
        } else {
            return None;
        }
    }
    (octets == 3 && digits > 0).then(|| Ipv4Addr::from_bits(bits << 8 | value))
}

/// Groups of at most four digits, and `::` for some of them. Not with an IPv4 address at the end.
fn v6(bytes: &[u8]) -> Option<Ipv6Addr> {
    let mut groups = [0_u16; 8];
    // How many groups there are, where among them stands `::`, and the group that is being read.
    let (mut count, mut gap) = (0, None);
    let (mut value, mut digits) = (0_u16, 0);
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != b':' {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                _ => return None,
            };
            digits += 1;
            if digits > 4 {
                return None;
            }
            value = value << 4 | u16::from(digit);
        } else if digits > 0 {
            *groups.get_mut(count)? = value;
            count += 1;
            (value, digits) = (0, 0);
        } else if at > 0 && bytes[at - 1] == b':' && gap.is_none() {
            gap = Some(count);
        } else if at > 0 || bytes.get(1) != Some(&b':') {
            return None;
        }
    }
    if digits > 0 {
        *groups.get_mut(count)? = value;
        count += 1;
    } else if gap != Some(count) {
        // It ends in a single colon.
        return None;
    }
    match gap {
        None if count == 8 => {}
        Some(at) if count < 8 => {
            groups.copy_within(at..count, at + 8 - count);
            groups[at..at + 8 - count].fill(0);
        }
        None | Some(_) => return None,
    }
    Some(Ipv6Addr::from(groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_plainly_is_read_here() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "192.0.2.1/32",
            "::",
            "::1",
            "1::",
            "::/0",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1::8",
            "2001:DB8:0:ffff::/64",
            "fe80::/10",
            "::ffff:0:1/128",
        ] {
            let block = plain_block(text).unwrap_or_else(|| panic!("{text}"));
            let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
            let addr: IpAddr = addr.parse().unwrap();
            let len = len.map_or(Cidr::host(addr).prefix_len(), |len| len.parse().unwrap());
            assert_eq!((block.first(), block.prefix_len()), (addr, len), "{text}");
        }
    }

    #[test]
    fn what_is_read_is_what_the_standard_library_reads() {
        // Each text of up to seven of these, and addresses with one byte changed or taken away.
        let alphabet = b":.0a1g/";
        let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
        for length in 0..7 {
            let before: Vec<Vec<u8>> = texts.iter().filter(|text| text.len() == length).cloned().collect();
            texts.extend(
                before.iter().flat_map(|text| alphabet.iter().map(|byte| [text.as_slice(), &[*byte]].concat())),
            );
        }
        for whole in
            [&b"192.168.10.255"[..], b"0.0.0.0", b"1:22:333:4444:5:6:7:8", b"1:2:3::6:7:8", b"abcd::", b"::dcba:1"]
        {
            for at in 0..whole.len() {
                texts.push([&whole[..at], &whole[at + 1..]].concat());
                for byte in b"0123456789abcdefABCDEF:./+- %" {
                    texts.push([&whole[..at], &[*byte], &whole[at + 1..]].concat());
                    texts.push([&whole[..at], &[*byte], &whole[at..]].concat());
                    texts.push([whole, &[*byte]].concat());
                }
            }
        }
        let mut read = 0;
        for text in texts {
            let Some(address) = plain_address(&text) else { continue };
            assert_eq!(str::from_utf8(&text).unwrap().parse(), Ok(address), "{}", text.escape_ascii());
            read += 1;
        }
        assert!(read > 1000, "{read}");
    }

    #[test]
    fn what_is_written_otherwise_is_left_alone() {
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/08",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0/8",
            "10.0.0.0.0",
            "010.0.0.1",
            "256.0.0.1",
            "1.2.3.4/+8",
            ":",
            ":::",
            "1:2",
            "1:",
            ":1",
            "1::2::3",
            "1:2:3:4:5:6:7:8::",
            "12345::",
            "::1%lo",
            "::ffff:1.2.3.4",
            "2001:db8::1/64",
            "::/129",
            "::/0128",
            "10.0.0.1:443",
            "g::",
        ] {
            assert_eq!(plain_block(text), None, "{text}");
        }
    }
}
