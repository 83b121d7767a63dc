use super::*;
use serde_json::json;

fn call() -> Call {
    Call::default()
}

fn installed(text: &str) -> String {
    install("f", text, &call()).unwrap().text
}

fn hooks(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["hooks"].clone()
}

fn ours(stage: Registered) -> Value {
    serde_json::to_value(call().hook(stage).unwrap()).unwrap()
}

/// Specifications as people and programs write them.
const TEXTS: [&str; 16] = [
    "{}",
    "{ }\n",
    "{\n}\n",
    r#"{"ociVersion":"1.0.2"}"#,
    "{\n\t\"ociVersion\": \"1.0.2\",\n\t\"root\": {\n\t\t\"path\": \"rootfs\"\n\t}\n}\n",
    "{\r\n  \"ociVersion\": \"1.0.2\"\r\n}",
    r#"{"hooks":null,"a":1}"#,
    r#"{"hooks":{},"a":1}"#,
    "{\n  \"hooks\": {\n  },\n  \"a\": 1.00000000000000000000E+07\n}",
    r#"{"a":18446744073709551616,"hooks":{"createRuntime":null,"poststop":[],"poststart":[ ]}}"#,
    "{\n  \"hooks\": {\n    \"createRuntime\": [\n      {\n        \"path\": \"/a\"\n      }\n    ]\n  }\n}",
    r#"{"hooks": {"createRuntime": [{"path": "/a"}, {"path": "/b"}], "prestart": [{"path": "/c"}]}, "z": 0}"#,
    r#"{"hooks":{"poststop":[{"path":"/a"}],"poststart":[{"path":"/b"}],"createRuntime":[{"path":"/c"}]}}"#,
    "  {\"\\u0068ooks\" : { \"poststop\" : [\n{\"path\": \"/a\"} , {\"path\": \"/b\"}\n] } , \"é\": \"\\ud83d\\ude00\"}  \n",
    "{\"linux\":{},\n\"hooks\":{\"createContainer\":[{\"path\":\"/x\"}]}}",
    r#"{"z":1,"hooks":{"createRuntime":[]}}"#,
];

#[test]
fn taking_out_is_the_inverse_of_putting_in_byte_for_byte() {
    for text in TEXTS {
        let with = install("f", text, &call()).unwrap();
        assert_eq!(with.changes.len(), 3, "{text}");
        let again = install("f", &with.text, &call()).unwrap();
        assert_eq!((again.text.as_str(), again.changes.len(), again.left.len()), (with.text.as_str(), 0, 0), "{text}");
        let without = uninstall("f", &with.text).unwrap();
        assert_eq!(without.text, text, "{}", with.text);
        assert_eq!((without.changes.len(), without.left), (3, vec![]), "{text}");
        let nothing = uninstall("f", text).unwrap();
        assert_eq!((nothing.text.as_str(), nothing.changes), (text, vec![]));
    }
}

#[test]
fn only_the_hooks_are_another_value_and_other_hooks_stay_in_order() {
    for text in TEXTS {
        let with = installed(text);
        let (mut before, mut after): (Value, Value) =
            (serde_json::from_str(text).unwrap(), serde_json::from_str(&with).unwrap());
        for stage in Registered::ALL {
            let list = after["hooks"][stage.name()].as_array_mut().unwrap();
            let own = if stage == Registered::Poststop { list.remove(0) } else { list.pop().unwrap() };
            assert_eq!(own, ours(stage), "{with}");
            let old = before["hooks"][stage.name()].as_array().cloned().unwrap_or_default();
            assert_eq!(*list, old, "{with}");
            before["hooks"][stage.name()] = json!([]);
            after["hooks"][stage.name()] = json!([]);
        }
        assert_eq!(before, after);
    }
}

#[test]
fn a_text_in_lines_gets_lines_and_one_without_gets_none() {
    let with = installed("{\n\t\"a\": 1\n}\n");
    assert!(
        with.starts_with("{\n\t\"a\": 1,\n\t\"hooks\": {\n\t\t\"createRuntime\": [\n\t\t\t{\n\t\t\t\t\"path\": "),
        "{with}"
    );
    assert!(with.ends_with("\n\t\t]\n\t}\n}\n"), "{with}");
    let with = installed(r#"{"a":1}"#);
    assert!(!with.contains([' ', '\n']), "{with}");
}

#[test]
fn an_entry_that_is_out_of_place_or_out_of_date_is_put_right() {
    let stage = Registered::CreateRuntime;
    let mut entry = ours(stage);
    entry["path"] = json!("/old/netlatch");
    let text = json!({"hooks": {"createRuntime": [entry, {"path": "/cni"}, ours(stage)]}}).to_string();
    let with = install("f", &text, &call()).unwrap();
    assert_eq!(hooks(&with.text)["createRuntime"], json!([{"path": "/cni"}, ours(stage)]));
    let changes: Vec<_> = with.changes.iter().map(|change| (change.added, change.at.as_str())).collect();
    let expected = [
        (false, "hooks.createRuntime[2]"),
        (false, "hooks.createRuntime[0]"),
        (true, "hooks.createRuntime[1]"),
        (true, "hooks.poststart[0]"),
        (true, "hooks.poststop[0]"),
    ];
    assert_eq!(changes, expected);
    // Another hook came behind it since.
    let text = json!({"hooks": {"createRuntime": [ours(stage), {"path": "/cni"}]}}).to_string();
    assert_eq!(hooks(&installed(&text))["createRuntime"], json!([{"path": "/cni"}, ours(stage)]));
}

#[test]
fn what_somebody_wrote_by_hand_is_left_and_said() {
    let told = Call { config: Some("/c".into()), ..call() };
    let text = install("f", r#"{"hooks":{}}"#, &told).unwrap().text;
    let with = install("f", &text, &call()).unwrap();
    assert_eq!((with.text.as_str(), with.left.len()), (text.as_str(), 3));
    assert_eq!(with.left[0], ("hooks.createRuntime[0]".to_owned(), TOLD));
    // The same once more is the same.
    assert!(install("f", &text, &told).unwrap().left.is_empty());
    assert_eq!(uninstall("f", &text).unwrap().text, r#"{"hooks":{}}"#);

    let mut altered = ours(Registered::CreateRuntime);
    altered["env"] = json!(["A=B"]);
    let text = json!({"hooks": {"createRuntime": [altered], "prestart": [{"path": "/x/netlatch"}]}}).to_string();
    let with = install("f", &text, &call()).unwrap();
    assert_eq!(with.left, [("hooks.createRuntime[0]".to_owned(), ALTERED)]);
    assert_eq!(hooks(&with.text)["createRuntime"], json!([altered]), "not called twice");
    let without = uninstall("f", &with.text).unwrap();
    assert_eq!(without.text, text);
    let left: Vec<_> = without.left.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(left, ["hooks.createRuntime[0]", "hooks.prestart[0]"]);
}

#[test]
fn entries_written_by_hand_as_the_guide_shows_them_go_without_a_trace() {
    let text = "{\"a\": 1,\n \"hooks\": {\"poststop\": [{\"timeout\": 15, \"args\": [\"netlatch\", \"poststop\"],\n \"path\": \"/x/netlatch\"}], \"createRuntime\": [{\"path\": \"/y\"}]}}";
    assert_eq!(
        uninstall("f", text).unwrap().text,
        "{\"a\": 1,\n \"hooks\": { \"createRuntime\": [{\"path\": \"/y\"}]}}"
    );
}

#[test]
fn what_is_no_specification_is_refused_with_its_place() {
    for (text, named) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{\n  \"a\": }", "expected value at line 2 column 8"),
        ("[]", "expected a JSON object"),
        ("{} {}", "trailing characters at line 1 column 4"),
        ("{\n \"hooks\": 5}", "hooks: expected an object at line 2 column 11"),
        ("{\"hooks\": []}", "hooks: expected an object at line 1 column 11"),
        ("{\"hooks\": {\n\"poststop\": {}}}", "hooks.poststop: expected a list at line 2 column 13"),
        ("{\"hooks\": {\"prestart\": 1}}", "hooks.prestart: expected a list at line 1 column 24"),
        ("{\"hooks\": {}, \"hooks\": {}}", "the specification: a key stands twice at line 1 column 24"),
        ("{\"hooks\": {\"a\": [], \"a\": []}}", "hooks: a key stands twice at line 1 column 26"),
    ] {
        for failure in [install("f.json", text, &call()).unwrap_err(), uninstall("f.json", text).unwrap_err()] {
            assert_eq!(failure.exit_code(), 13);
            assert!(failure.to_string().contains(&format!("f.json: {named}")), "{text}: {failure}");
        }
    }
    let deep = "[".repeat(100_000);
    assert_eq!(install("f", &deep, &call()).unwrap_err().exit_code(), 13);
}
