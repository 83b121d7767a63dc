//! The kernel's numbers in src/nft/wire/uapi.rs, src/conntrack/uapi.rs and src/netlink.rs, held against the kernel's own headers by the C compiler.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the constants come from.
const HEADERS: [&str; 10] = [
    "stddef.h",
    "netinet/tcp.h",
    "linux/netlink.h",
    "linux/rtnetlink.h",
    "linux/netfilter.h",
    "linux/netfilter/nfnetlink.h",
    "linux/netfilter/nf_tables.h",
    "linux/netfilter/nf_conntrack_common.h",
    "linux/netfilter/nfnetlink_conntrack.h",
    "linux/if_ether.h",
];

/// What the headers spell otherwise.
const SPELLED: [(&str, &str); 4] = [
    // An int there, with all higher bits set.
    ("NLA_TYPE_MASK", "(unsigned short)NLA_TYPE_MASK"),
    ("NF_CT_STATE_ESTABLISHED_BIT", "NF_CT_STATE_BIT(IP_CT_ESTABLISHED)"),
    ("NF_CT_STATE_RELATED_BIT", "NF_CT_STATE_BIT(IP_CT_RELATED)"),
    ("NF_CT_STATE_NEW_BIT", "NF_CT_STATE_BIT(IP_CT_NEW)"),
];

/// Newer than the headers of some distribution we build on, with the version that brought them. They may be missing, and
/// must be right where they are not.
const NEWER: [&str; 6] = [
    "CTA_FILTER",             // 5.8
    "CTA_FILTER_ORIG_FLAGS",  // 5.8
    "CTA_FILTER_REPLY_FLAGS", // 5.8
    "NFTA_SET_COUNT",         // 6.16
    "NFT_MSG_DESTROYTABLE",   // 6.3
    "NFT_MSG_DESTROYSETELEM", // 6.3
];

/// Not in the kernel's UAPI: nft's own numbers (nftables, include/datatype.h; libnftnl, include/udata.h), and internal
/// ones of the kernel (include/net/flow.h, net/netfilter/nf_internals.h).
const ELSEWHERE: [&str; 10] = [
    "TYPE_IPADDR",
    "TYPE_IP6ADDR",
    "TYPE_INET_PROTOCOL",
    "TYPE_INET_SERVICE",
    "TYPE_MARK",
    "TYPE_BITS",
    "NFTNL_UDATA_COMMENT",
    "LOOPBACK_IFINDEX",
    "TCP_FLAGS_OFFSET",
    "CTA_FILTER_F_CTA_IP_SRC",
];

/// The files that hold them.
fn text() -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    ["nft/wire/uapi.rs", "conntrack/uapi.rs", "netlink.rs"]
        .map(|file| fs::read_to_string(src.join(file)).expect("a source file"))
        .concat()
}

/// `pub const NAME: TYPE = VALUE;` of the files, as text.
fn constants() -> Vec<(String, String)> {
    let constant = |line: &str| {
        let (name, rest) = line.strip_prefix("pub const ")?.split_once(": ")?;
        let (_, value) = rest.strip_suffix(';')?.split_once(" = ")?;
        Some((name.to_owned(), value.to_owned()))
    };
    text().lines().filter_map(constant).collect()
}

/// A program that does not compile where a number is wrong.
fn program(constants: &[(String, String)]) -> String {
    let includes: String = HEADERS.iter().map(|header| format!("#include <{header}>\n")).collect();
    let assertion = |(name, value): &(String, String)| {
        let spelled = SPELLED.iter().find(|(ours, _)| ours == name).map_or(name.as_str(), |(_, theirs)| theirs);
        format!("_Static_assert((long long)({spelled}) == ({value}), \"wrong: {name}\");\n")
    };
    includes + &constants.iter().map(assertion).collect::<String>()
}

/// What the compiler says, or nothing.
fn compile(program: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("uapi.c");
    fs::write(&file, program).expect("a file");
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-fsyntax-only", "-fmax-errors=0"]).arg(&file).env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().expect("a C compiler");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

/// The names the compiler complains of, apart: not declared, and another number.
fn complaints(said: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let named = |before: &str, after: &str| {
        let name = |line: &str| Some(line.split_once(before)?.1.split_once(after)?.0.to_owned());
        said.lines().filter_map(name).collect()
    };
    (named("error: '", "' undeclared"), named("static assertion failed: \"wrong: ", "\""))
}

#[test]
fn every_line_of_the_files_is_read() {
    assert_eq!(constants().len(), text().matches("pub const ").count());
    let names: BTreeSet<String> = constants().into_iter().map(|(name, _)| name).collect();
    for name in ELSEWHERE.iter().chain(&NEWER).chain(SPELLED.iter().map(|(name, _)| name)) {
        assert!(names.contains(*name), "{name} is gone from uapi.rs");
    }
}

#[test]
#[ignore = "needs a C compiler and the kernel's headers"]
fn every_number_is_the_one_of_the_kernels_headers() {
    let held: Vec<_> = constants().into_iter().filter(|(name, _)| !ELSEWHERE.contains(&name.as_str())).collect();
    let said = compile(&program(&held));
    let (undeclared, wrong) = complaints(&said);
    assert!(wrong.is_empty(), "another number than the headers': {wrong:?}");
    let unexpected: Vec<_> = undeclared.iter().filter(|name| !NEWER.contains(&name.as_str())).collect();
    assert!(unexpected.is_empty(), "not in the headers: {unexpected:?}");
    // gcc adds to each undeclared name that the assertion about it is none.
    let follows = |line: &&str| line.contains("expression in static assertion is not ");
    let errors = said.lines().filter(|line| line.contains("error: ") && !follows(line)).count();
    assert_eq!(errors, undeclared.len(), "{said}");
}

#[test]
#[ignore = "needs a C compiler and the kernel's headers"]
fn a_wrong_number_and_an_unknown_name_are_noticed() {
    let constant = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let said = compile(&program(&[
        constant("NFTA_TABLE_NAME", "1"),
        constant("NFT_GOTO", "-3"),
        constant("NFTA_NO_SUCH", "1"),
        constant("NF_CT_STATE_RELATED_BIT", "2"),
    ]));
    let (undeclared, wrong) = complaints(&said);
    assert_eq!(undeclared.into_iter().collect::<Vec<_>>(), ["NFTA_NO_SUCH"]);
    assert_eq!(wrong.into_iter().collect::<Vec<_>>(), ["NFT_GOTO", "NF_CT_STATE_RELATED_BIT"]);
}
