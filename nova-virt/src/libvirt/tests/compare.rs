//! Trees held against each other.

use crate::libvirt::facts::set;
use crate::libvirt::xml::Element;

/// The names of everything in it, without what it says.
pub(super) fn shape(tree: &Element) -> String {
    let attributes = tree.attributes().iter().map(|(name, _)| name.as_str());
    let attributes: Vec<&str> = attributes.collect();
    let children: Vec<String> = tree.children().iter().map(shape).collect();
    format!("{}[{}]({})", tree.name(), attributes.join(" "), children.join(" "))
}

/// Everything that it says: attributes and texts, in order.
pub(super) fn sayings(tree: &Element) -> Vec<&str> {
    let attributes = tree.attributes().iter().map(|(_, value)| value.as_str());
    let own = attributes.chain([tree.text_of()]);
    own.chain(tree.children().iter().flat_map(sayings)).collect()
}

/// Where `kept` does not say what `told` says, in a daemon's own way; it may say more.
pub(super) fn missing(told: &Element, kept: &Element) -> Option<String> {
    let name = told.name();
    if name != kept.name() || !same(told.text_of(), kept.text_of(), told, kept) {
        return Some(format!("{name} {}, not {}", told.text_of(), kept.text_of()));
    }
    for (attribute, value) in told.attributes() {
        let is = kept.get(attribute).unwrap_or_default();
        // The name of a namespace is nobody's business but the reader's.
        if !attribute.starts_with("xmlns") && !same(value, is, told, kept) {
            return Some(format!("{name} {attribute}={value}, not {is}"));
        }
    }
    told.children().iter().find_map(|child| {
        let alike = kept.all(child.name()).map(|kept| missing(child, kept));
        // None, where nothing is missing, comes before every text.
        let nearest = alike.min().unwrap_or_else(|| Some(child.name().to_owned()));
        nearest.map(|missing| format!("{name} > {missing}"))
    })
}

/// Whether both say the same: daemons count in KiB, write ranges, and know what machine it is.
fn same(told: &str, kept: &str, by: &Element, of: &Element) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    let unit = |element: &Element| element.get("unit").map(ToOwned::to_owned);
    let mebi = unit(by).as_deref() == Some("MiB") && unit(of).as_deref() == Some("KiB");
    told.is_empty()
        || told == kept
        || (mebi && told == "MiB" && kept == "KiB")
        || (mebi && number(told).is_some_and(|told| number(kept) == Some(told * 1024)))
        || (set(told).is_some() && set(told) == set(kept))
        || kept.starts_with(&format!("pc-{told}-"))
}
