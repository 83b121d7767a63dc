//! The kept corpus of the fuzz targets, each file put to the law of its target: what a fuzzer found once stays found, on any
//! toolchain. How to look for more: tests/fuzz/README.md.

#[path = "fuzz/laws/mod.rs"]
mod laws;

use std::fs;
use std::path::Path;

/// Puts every kept file of a target to its law. A panic in there is told with the file's name in front of it.
fn holds_for_all(target: &str, holds: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", dir.display());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        println!("{}", file.display());
        holds(&bytes);
    }
}

/// A test for each target.
macro_rules! targets {
    ($($target:ident),*) => {
        $(
            #[test]
            fn $target() {
                holds_for_all(stringify!($target), laws::$target::holds);
            }
        )*

        #[test]
        fn every_target_has_its_law_its_corpus_and_its_fuzzer() {
            let known = [$(stringify!($target)),*];
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
            let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
            for target in known {
                assert!(fuzz.join("fuzz_targets").join(target).with_extension("rs").is_file(), "{target}");
                assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
            }
            for entry in fs::read_dir(fuzz.join("corpus")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(known.contains(&name.as_str()), "nobody reads the corpus {name}");
            }
        }
    };
}

targets!(annotations, bundle, config, document, lists, netlink, policies, probes, registry, state);
