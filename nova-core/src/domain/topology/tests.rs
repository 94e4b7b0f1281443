//! What comes of extra specs and image properties.

use proptest::prelude::*;

use super::*;
use crate::domain::{ExtraSpecs, FlavorName, MiB, Vcpus};

fn flavor(specs: &[(&str, &str)]) -> Flavor {
    let specs = ExtraSpecs::new(specs.iter().copied()).unwrap();
    let flavor = Flavor::new(FlavorName::new("f").unwrap(), Vcpus(4), MiB(4096)).unwrap();
    flavor.with_extra_specs(specs)
}

/// The cells of a guest with 4 CPUs and 4096 MiB, as `shared/dedicated memory`, or the field that
/// is wrong.
fn cells(specs: &[(&str, &str)], image: &[(&str, &str)]) -> Result<Option<String>, &'static str> {
    let image = ImageProperties::new(image.iter().copied()).unwrap();
    let topology = GuestTopology::from_specs(&flavor(specs), &image).map_err(|e| e.field)?;
    let list = |set: &BTreeSet<u32>| set.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let cell = |cell: &GuestCell| {
        let (shared, dedicated) = (list(&cell.shared_vcpus), list(&cell.dedicated_vcpus));
        format!("{shared}/{dedicated} {}", cell.memory)
    };
    Ok(topology.map(|topology| topology.cells.iter().map(cell).collect::<Vec<_>>().join(" | ")))
}

fn check(
    specs: &[(&str, &str)],
    image: &[(&str, &str)],
    expected: Result<Option<&str>, &'static str>,
) {
    let expected = expected.map(|cells| cells.map(str::to_owned));
    assert_eq!(cells(specs, image), expected, "{specs:?} {image:?}");
}

#[test]
fn a_guest_has_cells_when_somebody_asks_for_what_cells_have() {
    check(&[], &[], Ok(None));
    check(&[("hw:cpu_policy", "shared")], &[], Ok(None));
    check(&[("hw:numa_nodes", "2")], &[], Ok(Some("0,1/ 2048 | 2,3/ 2048")));
    check(&[], &[("hw_numa_nodes", "1")], Ok(Some("0,1,2,3/ 4096")));
    check(&[("hw:mem_page_size", "large")], &[], Ok(Some("0,1,2,3/ 4096")));
    check(&[("hw:cpu_policy", "dedicated")], &[], Ok(Some("/0,1,2,3 4096")));
    check(&[], &[("hw_cpu_policy", "dedicated")], Ok(Some("/0,1,2,3 4096")));
}

#[test]
fn a_mixed_guest_says_which_cpus_it_has_for_itself() {
    let mixed = |mask| [("hw:cpu_policy", "mixed"), ("hw:cpu_dedicated_mask", mask)];
    check(&mixed("0-2,^1"), &[], Ok(Some("1,3/0,2 4096")));
    check(&mixed("^0-1"), &[], Ok(Some("0,1/2,3 4096")));
    for bad in ["0-3", "4", "3-2", "^0-3", "", "a", "0-", "0,,1", "0-4294967295", "-1"] {
        check(&mixed(bad), &[], Err("hw:cpu_dedicated_mask"));
    }
    check(&mixed("0")[..1], &[], Err("hw:cpu_dedicated_mask"));
    check(&mixed("0")[1..], &[], Err("hw:cpu_dedicated_mask"));
    check(&mixed("0")[1..], &[("hw_cpu_policy", "mixed")], Ok(Some("1,2,3/0 4096")));
}

#[test]
fn cells_may_differ_but_are_the_whole_guest() {
    let uneven = [
        ("hw:numa_nodes", "2"),
        ("hw:numa_cpus.0", "0,2-3"),
        ("hw:numa_cpus.1", "1"),
        ("hw:numa_mem.0", "4000"),
        ("hw:numa_mem.1", "96"),
    ];
    check(&uneven, &[], Ok(Some("0,2,3/ 4000 | 1/ 96")));
    let with = |at: usize, value| {
        let mut uneven = uneven;
        uneven[at].1 = value;
        uneven
    };
    check(&with(0, "3"), &[], Err("hw:numa_cpus"));
    check(&with(1, "0-3"), &[], Err("hw:numa_cpus"));
    check(&with(1, "0,2"), &[], Err("hw:numa_cpus"));
    check(&with(2, "1,4"), &[], Err("hw:numa_cpus"));
    check(&with(3, "4001"), &[], Err("hw:numa_mem"));
    check(&with(3, "0"), &[], Err("hw:numa_mem"));
    check(&uneven[..3], &[], Err("hw:numa_mem"));
    check(&uneven[1..3], &[], Err("hw:numa_cpus"));
    check(&[("hw:numa_cpus.01", "0")], &[], Err("hw:numa_cpus"));
    check(&[("hw:numa_cpus.16", "0")], &[], Err("hw:numa_cpus"));
    check(&[("hw:numa_nodes", "3")], &[], Err("hw:numa_nodes"));
    for bad in ["0", "-1", "x", "", "17", "1.0", "+1"] {
        check(&[("hw:numa_nodes", bad)], &[], Err("hw:numa_nodes"));
    }
}

#[test]
fn an_image_adds_to_its_flavor_and_does_not_contradict_it() {
    let policy = |own, image, expected| {
        let own = [("hw:cpu_policy", own), ("hw:cpu_dedicated_mask", "0")];
        let own = if own[0].1 == "mixed" { &own[..] } else { &own[..1] };
        check(own, &[("hw_cpu_policy", image)], expected);
    };
    policy("dedicated", "shared", Ok(Some("/0,1,2,3 4096")));
    policy("mixed", "shared", Ok(Some("1,2,3/0 4096")));
    policy("mixed", "dedicated", Err("hw_cpu_policy"));
    policy("shared", "dedicated", Err("hw_cpu_policy"));
    policy("shared", "mixed", Err("hw_cpu_policy"));
    let pages = |own, image, expected| {
        let found = GuestTopology::from_specs(
            &flavor(&[("hw:mem_page_size", own)]),
            &ImageProperties::new([("hw_mem_page_size", image)]).unwrap(),
        );
        let found = found.map(|found| found.unwrap().cells[0].page_size);
        assert_eq!(found.map_err(|e| e.field), expected, "{own} {image}");
    };
    pages("large", "2MB", Ok(Some(PageSize::Kib(2048))));
    pages("any", "small", Ok(Some(PageSize::Small)));
    pages("2048", "2MB", Err("hw_mem_page_size"));
    check(&[], &[("hw_mem_page_size", "2MB")], Err("hw_mem_page_size"));
    check(&[("hw:numa_nodes", "1")], &[("hw_numa_nodes", "1")], Err("hw_numa_nodes"));
}

#[test]
fn threads_are_asked_for_by_who_has_cpus_for_itself() {
    let threads = |own: Option<&str>, image: Option<&str>| {
        let own = own.map(|own| ("hw:cpu_thread_policy", own));
        let specs: Vec<_> = [("hw:cpu_policy", "dedicated")].into_iter().chain(own).collect();
        let image = ImageProperties::new(image.map(|image| ("hw_cpu_thread_policy", image)));
        let found = GuestTopology::from_specs(&flavor(&specs), &image.unwrap());
        found.map(|found| found.unwrap().cells[0].cpu_thread_policy).map_err(|e| e.field)
    };
    use CpuThreadPolicy::{Isolate, Prefer, Require};
    assert_eq!(threads(None, None), Ok(None));
    assert_eq!(threads(None, Some("require")), Ok(Some(Require)));
    assert_eq!(threads(Some("prefer"), Some("isolate")), Ok(Some(Prefer)));
    assert_eq!(threads(Some("isolate"), Some("isolate")), Ok(Some(Isolate)));
    assert_eq!(threads(Some("isolate"), Some("prefer")), Err("hw_cpu_thread_policy"));
    assert_eq!(threads(Some("never"), None), Err("hw:cpu_thread_policy"));
    check(&[("hw:cpu_thread_policy", "require")], &[], Err("hw:cpu_thread_policy"));
    let mixed = [
        ("hw:cpu_policy", "mixed"),
        ("hw:cpu_dedicated_mask", "0"),
        ("hw:numa_nodes", "2"),
        ("hw:cpu_thread_policy", "isolate"),
    ];
    let found = GuestTopology::from_specs(&flavor(&mixed), &ImageProperties::default());
    let found: Vec<_> = found.unwrap().unwrap().cells.iter().map(|c| c.cpu_thread_policy).collect();
    assert_eq!(found, [Some(Isolate), None]);
}

#[test]
fn a_page_size_is_a_word_or_a_size() {
    let size = |text| page_size("pages", text).ok();
    assert_eq!(size("2048"), Some(PageSize::Kib(2048)));
    for (text, kib) in [("2MB", 2048), ("2MiB", 2048), ("1GB", 1 << 20), ("4kB", 4)] {
        assert_eq!(size(text), Some(PageSize::Kib(kib)), "{text}");
    }
    for bad in ["", "0", "0MB", "-1", "2M", "512B", "huge", "2 MB", "99999999999999TB", "MB"] {
        assert_eq!(size(bad), None, "{bad}");
    }
}

#[test]
fn a_flavor_is_checked_before_anybody_uses_it() {
    let field = |specs| GuestTopology::check_flavor(&flavor(specs)).map_err(|e| e.field);
    assert_eq!(field(&[("hw:cpu_policy", "own")]), Err("hw:cpu_policy"));
    assert_eq!(field(&[("hw:numa_nodes", "3")]), Err("hw:numa_nodes"));
    assert_eq!(field(&[("hw:cpu_policy", "mixed")]), Err("hw:cpu_dedicated_mask"));
    // An image may say that CPUs are dedicated.
    assert_eq!(field(&[("hw:cpu_thread_policy", "require")]), Ok(()));
    let shared = [("hw:cpu_policy", "shared"), ("hw:cpu_thread_policy", "require")];
    assert_eq!(field(&shared), Err("hw:cpu_thread_policy"));
}

#[test]
fn the_keys_that_are_read_are_those_of_the_table() {
    let check = |key, value| {
        let checked = GuestTopology::check_extra_spec(key, value);
        checked.map(|checked| checked.map_err(|e| e.field))
    };
    assert_eq!(check("hw:cpu_policy", "mixed"), Some(Ok(())));
    assert_eq!(check("hw:cpu_policy", "mixd"), Some(Err("hw:cpu_policy")));
    assert_eq!(check("hw:numa_cpus.1", "0-3"), Some(Ok(())));
    assert_eq!(check("hw:numa_mem.x", "1"), Some(Err("hw:numa_mem")));
    for key in ["hw:cpu_polices", "hw:numa_cpus", "hw_cpu_policy", "cpu_policy", ""] {
        assert_eq!(check(key, "1"), None, "{key}");
    }
}

proptest! {
    /// Any text in any key: an answer or an error, and cells that are the whole guest.
    #[test]
    fn whatever_is_said_the_cells_are_the_whole_guest(
        specs in prop::collection::btree_map(
            prop_oneof![
                Just("hw:cpu_policy"), Just("hw:cpu_thread_policy"), Just("hw:cpu_dedicated_mask"),
                Just("hw:mem_page_size"), Just("hw:numa_nodes"), Just("hw:numa_cpus.0"),
                Just("hw:numa_cpus.1"), Just("hw:numa_mem.0"), Just("hw:numa_mem.1"),
            ],
            prop_oneof![
                "[0-4,^-]{0,5}", "mixed", "dedicated", "require", "any", "[12]", "2048", "4096", "\\PC{0,8}",
            ],
            0..7,
        ),
    ) {
        let Ok(specs) = ExtraSpecs::new(specs) else { return Ok(()) };
        let flavor = flavor(&[]).with_extra_specs(specs);
        let Ok(Some(found)) = GuestTopology::from_specs(&flavor, &ImageProperties::default()) else {
            return Ok(());
        };
        let cpus = |cell: &GuestCell| cell.shared_vcpus.iter().chain(&cell.dedicated_vcpus).copied().collect::<Vec<_>>();
        let mut all: Vec<u32> = found.cells.iter().flat_map(cpus).collect();
        all.sort_unstable();
        prop_assert_eq!(all, [0, 1, 2, 3]);
        prop_assert_eq!(found.cells.iter().map(|cell| cell.memory).sum::<u64>(), 4096);
        prop_assert!(GuestTopology::check_flavor(&flavor).is_ok());
    }
}
