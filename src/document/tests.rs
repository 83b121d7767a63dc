use super::*;

fn good(text: &str) -> Vec<Node> {
    let mut findings = Vec::new();
    let roots = parse("f", text.as_bytes(), &mut findings);
    assert_eq!(findings, [], "{text}");
    roots
}

fn bad(bytes: &[u8]) -> Vec<String> {
    let mut findings = Vec::new();
    parse("f", bytes, &mut findings);
    findings.iter().map(ToString::to_string).collect()
}

fn string(text: &str) -> Value {
    Value::Str { text: text.into(), plain: false }
}

fn value_of<'n>(node: &'n Node, name: &str) -> &'n Node {
    node.field(name).unwrap_or_else(|| panic!("{name} of {node:?}"))
}

#[test]
fn nodes_know_line_and_column() {
    let root = &good("# hi\na:\n  - x\n  - {b: ü, c: z}\r\nd: |\n  text\n")[0];
    let items = value_of(root, "a");
    assert_eq!((items.line, items.column), (3, 3));
    let Value::Seq(items) = &items.value else { panic!() };
    assert_eq!((items[0].line, items[0].column), (3, 5));
    let c = value_of(&items[1], "c");
    assert_eq!((c.line, c.column), (4, 15));
    let Value::Map(entries) = &root.value else { panic!() };
    assert_eq!((entries[1].0.line, entries[1].0.column), (5, 1));
    assert_eq!(value_of(root, "d").value, string("text\n"));
}

#[test]
fn documents_that_hold_nothing_do_not_count() {
    assert!(good("").is_empty());
    assert!(good("\u{feff}").is_empty());
    assert!(good("# only a comment\n").is_empty());
    assert!(good("---\n---\n# x\n...\n").is_empty());
    assert_eq!(good("---\na: 1\n---\n---\nb: 2\n...\n---\nc: 3\n").len(), 3);
}

#[test]
fn json_comes_through_the_same_door() {
    let text = "{\n\t\"a\\/b\": \"\\ud83d\\ude00\\u00e9\\n\\\"\\\\\",\n\t\"n\":null,\"t\":true ,\"i\":-12,\"f\":1.5E+3,\n\t\"e\":{},\"l\":[ ],\"s\":[\"x\",[1]]}\n";
    let ours = &good(text)[0];
    assert_eq!(value_of(ours, "a/b").value, string("😀é\n\"\\"));
    assert_eq!(value_of(ours, "n").value, Value::Null);
    assert_eq!(value_of(ours, "i").value, Value::Int { value: -12, text: "-12".into() });
    assert_eq!(value_of(ours, "f").value, Value::Float { value: 1500.0, text: "1.5E+3".into() });
    assert_eq!(value_of(ours, "e").value, Value::Map(vec![]));
    assert_eq!(value_of(ours, "l").value, Value::Seq(vec![]));
}

#[test]
fn a_quoted_scalar_is_a_string_and_so_is_one_that_says_so() {
    let root = &good("a: '1'\nb: \"yes\"\nc: !!str 5\nd: ! 5\ne: !!map {}\nf: !!seq []\n")[0];
    assert_eq!(value_of(root, "a").value, string("1"));
    assert_eq!(value_of(root, "b").value, string("yes"));
    assert_eq!(value_of(root, "c").value, string("5"));
    assert_eq!(value_of(root, "d").value, string("5"));
}

#[test]
fn aliases_copy_what_they_name() {
    let root = &good("a: &x {k: [1, 2]}\nb: *x\n")[0];
    assert_eq!(value_of(root, "b"), value_of(root, "a"));
}

#[test]
fn bad_documents_are_refused_with_their_place() {
    for (text, wanted) in [
        ("a: 1\nb: 2\na: 3\n", "f:3:1: the key \"a\" stands twice, first in line 1"),
        ("{\"a\":1,\"a\":2}", "f:1:8: the key \"a\" stands twice"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "f:3:3: merge keys (<<) are not supported"),
        ("on: 1\n", "f:1:1: the key on is a boolean to some YAML readers; quote it"),
        ("1: x\n", "f:1:1: a key must be a string, found the integer 1; quote it"),
        ("true: x\n", "f:1:1: a key must be a string, found the boolean true"),
        ("? [a]\n: x\n", "f:1:3: a key must be a string, found a list"),
        (": x\n", "found nothing (null)"),
        ("a: !!int '1'\n", "the tag \"!!int\" is not supported"),
        ("a: !local x\n", "the tag \"!local\" is not supported"),
        ("a: !!binary aGk=\n", "is not supported"),
        ("a: *nope\n", "f:1:4:"),
        ("a: &x [*x]\n", "f:1:8: the alias stands inside what it names"),
        ("a: [1, 2\n", "f:"),
        ("a: 'x\n", "f:"),
        ("a: b: c\n", "f:1:"),
        ("a:\n\tb: 1\n", "f:2:"),
        ("a:\n  b: 1\n\tc: 1\n", "found a tab"),
        ("a: \"\\ud83d\"\n", "f:1:"),
        ("a: \"\\q\"\n", "f:1:"),
        ("a: \u{1}x\n", "f:1:"),
    ] {
        let found = bad(text.as_bytes());
        assert!(found.len() == 1 && found[0].contains(wanted), "{text:?}: {found:?}");
    }
    assert_eq!(bad(b"a: 1\nb: x\0y: 2\n"), ["f:2:5: a NUL character"]);
    assert_eq!(bad(b"a: 1\nb\xc3\xa9: \xff\n"), ["f:2:5: is not UTF-8 from here on"]);
}

#[test]
fn a_syntax_error_does_not_hide_the_next_document() {
    let found = bad(b"a: [\n---\nb: 1\nb: 2\n---\nc: 'x\n");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[1].starts_with("f:4:1: the key"), "{found:?}");
}

#[test]
fn hostile_texts_end_in_an_error_with_the_limit_named() {
    let limit = |text: &str, name: &str| {
        let found = bad(text.as_bytes());
        assert!(found.len() == 1 && found[0].contains(name), "{found:?}");
    };
    limit(&" ".repeat(MAX_BYTES + 1), "MAX_BYTES");
    let bomb = (b'b'..=b'i').fold("a: &a [1,1,1,1,1,1,1,1,1,1]\n".to_owned(), |text, c| {
        let (this, last) = (c as char, (c - 1) as char);
        text + &format!("{this}: &{this} [*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last}]\n")
    });
    limit(&bomb, "MAX_ALIASED");
    // Each anchor holds a copy of what is below it.
    limit(&format!("{}{}{}", "&a [".repeat(60), "1,".repeat(1000), "]".repeat(60)), "MAX_ALIASED");
    limit(&format!("[{}]", "1,".repeat(MAX_NODES)), "MAX_NODES");
    for text in
        ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000), "[{".repeat(50_000)]
    {
        limit(&text, "MAX_DEPTH");
    }
    assert_eq!(bad("---\n[\n".repeat(100_000).as_bytes()).len(), MAX_FINDINGS);
    assert_eq!(bad("a: 1\n".repeat(100_000).as_bytes()).len(), MAX_FINDINGS);
    let found =
        read(&(0..5000).map(|n| format!("a{n}: 1\n")).collect::<String>(), |root| root.fields().unwrap().finish());
    assert_eq!(found.len(), MAX_FINDINGS);
    for number in ["9".repeat(1 << 20), format!("0x{}", "f".repeat(1 << 20)), "1e999999999999".to_owned()] {
        let root = &good(&format!("- {number}"))[0];
        let Value::Seq(items) = &root.value else { panic!("{root:?}") };
        assert!(matches!(items[0].value, Value::Float { value, .. } if value == f64::INFINITY));
    }
    // Depth also counts through aliases, which no scanner sees.
    let chain = (1..MAX_DEPTH).fold("- &a0 [x]\n".to_owned(), |text, n| text + &format!("- &a{n} [*a{}]\n", n - 1));
    limit(&chain, "MAX_DEPTH");
    assert_eq!(good(&format!("a: '{}'", "x".repeat(MAX_BYTES - 8))).len(), 1);
    assert!(!bad(format!("{}: 1", "x".repeat(100_000)).as_bytes()).is_empty());
}

#[test]
fn a_json_document_of_common_size_and_one_with_long_lines_parse() {
    let items: Vec<String> =
        (0..2000).map(|n| format!("{{\"name\":\"n{n}\",\"value\":\"{}\"}}", "v".repeat(50))).collect();
    let text = format!("{{\"a\":\"{}\",\"items\":[{}]}}", "w".repeat(5000), items.join(","));
    assert_eq!(good(&text).len(), 1);
}

fn read(text: &str, with: impl Fn(&Place<'_>)) -> Vec<String> {
    let roots = good(text);
    let report = Report::new("f");
    with(&report.read(&roots[0]));
    report.into_parts().0.iter().map(ToString::to_string).collect()
}

#[test]
fn strings_that_look_like_something_else_must_be_quoted() {
    for text in ["yes", "on", "0x10", "12:30", "true", "5", "1.5", "1e3", "2001-12-14", "1_000", ".inf"] {
        let found = read(&format!("[{text}]"), |root| {
            root.items().unwrap().for_each(|item| assert_eq!(item.string(), None));
        });
        assert!(
            found.len() == 1 && found[0].starts_with("f:1:2: [0]: ") && found[0].ends_with("quote it"),
            "{found:?}"
        );
        assert_eq!(read(&format!("'{text}'"), |root| assert_eq!(root.string(), Some(text))), [""; 0]);
    }
    assert_eq!(read("y", |root| assert_eq!(root.string(), Some("y"))), [""; 0]);
}

#[test]
fn every_problem_is_reported_with_its_path() {
    let found = read(
        "spec:\n  ingress:\n  - from:\n    - ipBlok: {}\n    - ipBlock: {cidr: 5}\n  port: 70000\n  octal: 010\n  flag: 1\n  word: rejct\n  \"a.b/c\": x\n",
        |root| {
            let mut fields = root.fields().unwrap();
            let mut spec = fields.required("spec").unwrap().fields().unwrap();
            for rule in spec.required("ingress").unwrap().items().unwrap() {
                let mut rule = rule.fields().unwrap();
                for peer in rule.required("from").unwrap().items().unwrap() {
                    let mut peer = peer.fields().unwrap();
                    if let Some(block) = peer.not_null("ipBlock") {
                        let mut block = block.fields().unwrap();
                        block.required("cidr").unwrap().string();
                        block.finish();
                    }
                    peer.finish();
                }
                rule.finish();
            }
            spec.optional("port").unwrap().integer(1..=65535);
            spec.optional("octal").unwrap().integer(1..=65535);
            spec.optional("flag").unwrap().boolean();
            spec.optional("word").unwrap().word(&[("reject", 1), ("drop", 2)]);
            assert!(spec.required("gone").is_none());
            spec.finish();
            fields.finish();
        },
    );
    assert_eq!(
        found,
        [
            "f:4:7: spec.ingress[0].from[0]: unknown field \"ipBlok\"; did you mean ipBlock?",
            "f:5:23: spec.ingress[0].from[1].ipBlock.cidr: expected a string, found the integer 5; quote it",
            "f:6:9: spec.port: expected a whole number from 1 to 65535, found the integer 70000",
            "f:7:10: spec.octal: 010 is octal to some YAML readers; write it without the leading 0",
            "f:8:9: spec.flag: expected true or false, found the integer 1",
            "f:9:9: spec.word: expected one of reject, drop, found \"rejct\"; did you mean reject?",
            "f:2:3: spec.gone: the field is missing",
            "f:10:3: spec: unknown field \"a.b/c\"",
        ]
    );
}

#[test]
fn a_path_quotes_keys_that_are_no_words_and_cuts_long_text() {
    let found = read("labels: {a.b/c: 5}", |root| {
        let labels = root.fields().unwrap().optional("labels").unwrap();
        labels.entries().unwrap().for_each(|(_, value)| assert_eq!(value.string(), None));
    });
    assert_eq!(found, ["f:1:17: labels[\"a.b/c\"]: expected a string, found the integer 5; quote it"]);
    assert!(shown(&"x".repeat(1000)).len() < 80);
    assert_eq!(shown("a\u{202e}\n"), "\"a\\u{202e}\\n\"");
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        bad(&bytes);
    }

    #[test]
    fn no_yaml_like_text_panics(text in "[-?:,\\[\\]{}#&*!|>'\"%@` \\n\\ta0.<~é]{0,60}") {
        bad(text.as_bytes());
    }

    #[test]
    fn json_means_what_serde_json_says(value in json(4)) {
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let roots = good(&text);
            let ours = roots.first().map_or(serde_json::Value::Null, to_json);
            assert_eq!(ours, value, "{text}");
        }
    }
}

fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int { value, .. } => (*value).into(),
        Value::Float { value, .. } => (*value).into(),
        Value::Str { text, .. } => text.as_str().into(),
        Value::Seq(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => {
            serde_json::Value::Object(entries.iter().map(|(key, value)| (key.text.clone(), to_json(value))).collect())
        }
    }
}

fn json(depth: u32) -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        // A control character that JSON lets stand (DEL) is none of YAML's printable ones.
        "[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{7f}-\u{9f}\u{feff}\u{fffe}\u{ffff}]{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(depth, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map("[ -~é😀]{0,8}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn a_manifest_is_told_from_a_configuration() {
    assert!(good("apiVersion: v1\nkind: Pod")[0].is_manifest());
    for text in ["kind: Pod", "egress: none", "[apiVersion, kind]", "x"] {
        assert!(!good(text)[0].is_manifest(), "{text}");
    }
}

#[test]
fn what_json_lets_stand_in_a_string_is_read_but_for_del() {
    assert_eq!(value_of(&good("{\"a\": \"\u{85}\u{2028}\"}")[0], "a").value, string("\u{85}\u{2028}"));
    assert!(bad("{\"a\": \"\u{7f}\"}".as_bytes())[0].starts_with("f:1:8:"));
}

#[test]
fn a_key_that_stands_twice_is_found_in_objects_of_any_size() {
    for count in [1, 2, 23, 24, 25, 26, 100] {
        for first in [0, count / 2, count - 1] {
            let text: String = (0..count).chain([first]).map(|n| format!("k{n}: 1\n")).collect();
            let found = bad(text.as_bytes());
            let wanted = format!("f:{}:1: the key \"k{first}\" stands twice, first in line {}", count + 1, first + 1);
            assert_eq!(found, [wanted]);
        }
    }
}
