//! The pictures of `netlatch reach`: they say what the tables say, whoever chose the names in them.

#[path = "policy/random.rs"]
mod random;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Output};

use netlatch::cli::reach::json;
use netlatch::cli::reach::picture::{MAX_GROUPS, Picture, dot, html, svg};
use netlatch::net::Origin;
use netlatch::policy::lookup::World;
use netlatch::policy::model::Policies;
use netlatch::policy::reach::reach;
use netlatch::policy::verdict::Judge;
use netlatch::policy::world::{Inventory, Pod};
use proptest::prelude::*;
use proptest::sample::select;
use random::{inventory, inventory_in_v6, policies, policies_in_v6};
use serde_json::Value;
use support::container::binary;
use support::drawn::{arrows, differences, matrix};

/// The tables, and the picture in each form.
fn told(policies: &Policies, inventory: &Inventory) -> (Value, [String; 3]) {
    let world = World::new(inventory.clone());
    let judge = Judge::new(policies, &world);
    let reach = reach(policies, &judge, &world, &BTreeSet::new()).expect("tables");
    let picture = Picture::new(&reach, policies.network.len()).expect("a picture");
    (json(&reach), [svg(&picture), dot(&picture), html(&picture)])
}

/// What a page's script reads.
fn data_of(page: &str) -> Value {
    let begin = "<script type=\"application/json\" id=\"data\">";
    let (_, rest) = page.split_once(begin).expect("a block of data");
    let (data, _) = rest.split_once("</script>").expect("its end");
    serde_json::from_str(data).expect("JSON")
}

fn svg_in(page: &str) -> &str {
    let begin = page.find("<svg").expect("a picture");
    let end = page.find("</svg>").expect("its end");
    &page[begin..end + "</svg>".len()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_picture_says_what_the_tables_say(policies in policies(), inventory in inventory(), v6 in any::<bool>()) {
        let (policies, inventory) =
            if v6 { (policies_in_v6(&policies), inventory_in_v6(&inventory)) } else { (policies, inventory) };
        let (tables, [svg, dot, html]) = told(&policies, &inventory);
        let cells = matrix(&svg);
        prop_assert_eq!(differences(&tables, &cells), Vec::<String>::new());
        prop_assert_eq!(differences(&tables, &arrows(&dot)), Vec::<String>::new());
        prop_assert!(svg.ends_with(&format!("{}\n", svg_in(&html))), "the page shows the same picture");
        let data = data_of(&html);
        let size = cells.members.len();
        prop_assert_eq!(data["groups"].as_array().map(Vec::len), Some(size));
        for (index, cell) in data["cells"].as_array().expect("cells").iter().enumerate() {
            let passes = cells.passes.get(&(index / size, index % size));
            let kind = cell.as_u64().map(|kind| data["kinds"][kind as usize]["spoken"].as_array().expect("a list"));
            prop_assert_eq!(kind, passes);
        }
    }

    #[test]
    fn the_same_world_gives_the_same_bytes_in_whatever_order_it_is_read(policies in policies(), inventory in inventory()) {
        let (_, first) = told(&policies, &inventory);
        let mut turned = inventory;
        turned.pods.reverse();
        turned.namespaces.reverse();
        let mut others = policies;
        others.network.reverse();
        prop_assert_eq!(&told(&others, &turned).1, &first);
    }

    #[test]
    fn names_that_mean_something_to_the_form_stay_names(
        policies in policies(),
        inventory in inventory(),
        names in prop::collection::vec(hostile(), 12),
    ) {
        let mut inventory = inventory;
        let mut names = names.into_iter().enumerate();
        for pod in &mut inventory.pods {
            if let Some((index, name)) = names.next() {
                pod.name = format!("{name}{index}");
            }
        }
        // A namespace of such a name is one that no policy is in.
        if let Some((_, name)) = names.next() {
            let last = inventory.pods.len() - 1;
            inventory.pods[last].namespace = name;
        }
        let (tables, [svg, dot, html]) = told(&policies, &inventory);
        prop_assert_eq!(differences(&tables, &matrix(&svg)), Vec::<String>::new());
        prop_assert_eq!(differences(&tables, &arrows(&dot)), Vec::<String>::new());
        inert(&svg)?;
        prop_assert_eq!(html.matches("<script").count(), 2);
        prop_assert_eq!(html.matches("</script").count(), 2);
        prop_assert!(!html.contains("<!--") && !html.contains("<img") && !html.contains("]]>"));
        let known: BTreeSet<String> = data_of(&html)["groups"].as_array().expect("groups").iter()
            .flat_map(|group| group["members"].as_array().cloned().unwrap_or_default())
            .map(|member| member.as_str().expect("a name").to_owned())
            .collect();
        for pod in &inventory.pods {
            prop_assert!(known.contains(&pod.to_string()), "{pod} is in the page's data");
        }
    }
}

/// No element and no attribute but ours, and nothing that would be run or loaded.
fn inert(svg: &str) -> Result<(), TestCaseError> {
    let document = roxmltree::Document::parse(svg).expect("XML");
    let elements = ["svg", "title", "style", "defs", "g", "rect", "circle", "text", "path", "use"];
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        prop_assert!(elements.contains(&node.tag_name().name()), "{:?}", node.tag_name());
        for attribute in node.attributes() {
            prop_assert!(!attribute.name().starts_with("on"), "{attribute:?}");
            prop_assert!(attribute.name() != "href" || attribute.value().starts_with("#nl-k"), "{attribute:?}");
        }
    }
    Ok(())
}

fn hostile() -> impl Strategy<Value = String> {
    let known = [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "]]><img src=x onerror=alert(1)>",
        "\"><svg onload=alert(1)>",
        "' onmouseover='alert(1)",
        "&lt;&#x3c;&amp;",
        "\"];\n}\n\\\" \\N \\G \\",
        "\\",
        "${alert(1)}`",
        "\0\u{1}\u{1b}[31m\u{7f}",
        "\u{202e}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}",
        "a\nb\tc\r",
        "名前",
        "",
    ];
    prop_oneof![select(known.map(str::to_owned).to_vec()), any::<String>().prop_map(|text| text.replace('/', "-"))]
}

fn pod(namespace: &str, name: &str) -> Pod {
    Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels: BTreeMap::new(),
        addresses: Vec::new(),
        ports: Vec::new(),
        host_network: false,
        node: None,
        origin: Origin::Builtin("a test"),
    }
}

#[test]
fn a_world_without_policies_or_without_pods_is_drawn() {
    let pods = (0..300).map(|number| pod(["a", "b", "c"][number % 3], &format!("p-{number}"))).collect();
    for (pods, sentence) in [(pods, true), (Vec::new(), false)] {
        let (tables, [svg, dot, _]) = told(&Policies::default(), &Inventory { pods, ..Inventory::default() });
        assert_eq!(differences(&tables, &matrix(&svg)), Vec::<String>::new());
        assert_eq!(differences(&tables, &arrows(&dot)), Vec::<String>::new());
        assert_eq!(svg.contains("Everyone reaches everyone, inside and outside."), sentence);
        assert!(svg.len() < 20_000, "as many pods as you like are one group");
        assert!(!dot.contains("->"), "what is open has no arrows");
    }
}

// --- As a user meets it -------------------------------------------------------------------------------------------

struct Place(tempfile::TempDir);

impl Place {
    fn new(manifests: &str) -> Place {
        let place = Place(tempfile::tempdir().expect("a directory"));
        fs::write(place.0.path().join("world.yaml"), manifests).expect("a file");
        place
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(["reach", "-f", "."]).args(args).env_clear().current_dir(self.0.path());
        command.output().expect("the program ends")
    }

    fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// Pods that each let in the next one alone.
fn ring(size: usize) -> String {
    let mut manifests = String::new();
    for number in 0..size {
        let next = (number + 1) % size;
        manifests += &format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: shop, name: p{number}, labels: {{n: p{number}}}}}}}\n\
             ---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{namespace: shop, name: p{number}}}, \
             spec: {{podSelector: {{matchLabels: {{n: p{number}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{n: p{next}}}}}}}], \
             ports: [{{port: 80}}]}}]}}}}\n"
        );
    }
    manifests
}

#[test]
fn format_and_output_are_one_option_and_pictures_are_not_for_probes() {
    let place = Place::new(&ring(3));
    let svg = place.done(&["--format", "svg"]);
    assert_eq!(place.done(&["--output", "svg"]), svg);
    assert_eq!(place.done(&["-o", "svg"]), svg);
    assert!(svg.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg "));
    assert!(place.done(&["--format=html"]).starts_with("<!DOCTYPE html>\n"));
    assert!(place.done(&["--format=dot"]).contains("  g1 -> g0 [kind="));
    assert_eq!(place.done(&["--format=table"]), place.done(&[]));
    for form in ["dot", "svg", "html"] {
        let output = place.run(&["--format", form, "--probes", "-"]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(10), 0));
    }
}

#[test]
fn what_nobody_could_see_is_not_drawn() {
    // The outside is a group as well.
    assert_eq!(matrix(&Place::new(&ring(MAX_GROUPS - 1)).done(&["-o", "svg"])).members.len(), MAX_GROUPS);
    let output = Place::new(&ring(MAX_GROUPS)).run(&["-o", "svg"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(41), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("(MAX_GROUPS)"));
}

#[test]
fn a_page_asks_for_nothing_from_anywhere() {
    let page = Place::new(&ring(4)).done(&["-o", "html"]);
    assert!(page.contains("content=\"default-src 'none'; "));
    // The one address names the language of the picture.
    let left = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for loads in ["http:", "https:", "src=", "@import", "url(", "fetch(", "import(", "innerHTML", "eval("] {
        assert!(!left.contains(loads), "{loads}");
    }
}
