//! A bundle's config.json.

use netlatch::oci::Bundle;

/// The white space and the mark that editors put around a document mean nothing, and no capability is held in one spelling
/// alone.
pub(crate) fn holds(bytes: &[u8]) {
    let bundle = match Bundle::parse("/b/config.json", bytes) {
        Ok(bundle) => bundle,
        Err(failure) => return super::assert_failure(&failure, &[13]),
    };
    let mut padded = b"\xef\xbb\xbf \n".to_vec();
    padded.extend(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    padded.push(b'\n');
    assert_eq!(Bundle::parse("/b/config.json", &padded).as_ref(), Ok(&bundle));
    for capability in ["NET_ADMIN", "NET_RAW"] {
        let names = [capability.to_owned(), format!("CAP_{capability}"), format!("cap_{}", capability.to_lowercase())];
        let held = names.map(|name| bundle.holds_capability(&name));
        assert!(held.iter().all(|set| *set == held[0]), "{held:?}");
    }
}
