//! What requests take of pools, by hand and against the rules as a list of steps.

use proptest::prelude::*;

use super::*;

/// Pools as `vendor:product[@node][/dev_type][ tag=value]*:count`.
fn pools(texts: &[&str]) -> PciPools {
    let pool = |text: &&str| {
        let (text, count) = text.rsplit_once(':').unwrap();
        let mut words = text.split(' ');
        let (text, dev_type) = split(words.next().unwrap(), '/');
        let (text, node) = split(text, '@');
        let (vendor, product) = text.split_once(':').unwrap();
        PciPool {
            vendor_id: vendor.to_owned(),
            product_id: product.to_owned(),
            numa_node: node.map(|node| node.parse().unwrap()),
            dev_type: dev_type.map(str::to_owned),
            count: count.parse().unwrap(),
            tags: pairs(words),
        }
    };
    PciPools { pools: texts.iter().map(pool).collect() }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(text, rest)| (text, Some(rest)))
}

fn pairs<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let pair = |word: &str| {
        let (key, value) = word.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    };
    words.map(pair).collect()
}

/// A request for `count` devices of one kind, `key=value key=value`.
fn request(count: u32, spec: &str, numa_policy: PciNumaPolicy) -> PciRequest {
    PciRequest { count, spec: vec![pairs(spec.split(' '))], numa_policy }
}

/// What is left of `texts` after the requests, or the one that finds too few.
fn check(texts: &[&str], requests: &[PciRequest], near: Option<Near<'_>>, expected: &str) {
    let before = pools(texts);
    let mut after = before.clone();
    let counts = |pools: &PciPools| {
        let one = |pool: &PciPool| format!("{}:{}", pool.product_id, pool.count);
        pools.pools.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let said = match after.take(requests, near) {
        Ok(()) => counts(&after),
        Err(short) => {
            assert_eq!(after, before, "a refusal takes nothing");
            short.to_string()
        }
    };
    assert_eq!(said, expected, "{texts:?} {requests:?}");
    assert_eq!(before.check(requests, near).is_err(), said.starts_with("PCI request"));
}

const LEGACY: PciNumaPolicy = PciNumaPolicy::Legacy;

#[test]
fn devices_come_of_the_pools_of_which_least_is_said() {
    let any = || request(3, "vendor_id=8086", LEGACY);
    check(&["8086:a net=x:2", "8086:b:2"], &[any()], None, "a:1");
    check(
        &["8086:a net=x:2", "8086:b:2"],
        &[any(), any()],
        None,
        "PCI request 1 wants 3 devices: 1 suit it",
    );
}

#[test]
fn a_kind_is_met_whatever_the_case_of_its_values() {
    let mut one = request(1, "vendor_id=15B3 net=NET0", LEGACY);
    check(&["15b3:a net=net0:2"], &[one.clone()], None, "a:1");
    check(&["15b3:a:2"], &[one.clone()], None, "PCI request 0 wants 1 devices: 0 suit it");
    one.spec.push(pairs(["product_id=A"].into_iter()));
    check(&["15b3:a:2"], &[one], None, "a:1");
}

#[test]
fn physical_functions_and_vdpa_devices_are_given_only_by_name() {
    let any = request(1, "vendor_id=1", LEGACY);
    check(
        &["1:a/type-PF:5", "1:b/vdpa:5"],
        &[any],
        None,
        "PCI request 0 wants 1 devices: 0 suit it",
    );
    let named = request(1, "dev_type=vdpa", LEGACY);
    check(&["1:a/type-PF:5", "1:b/vdpa:5"], &[named], None, "a:5 b:4");
}

#[test]
fn a_pool_that_is_reached_empty_disappears() {
    let one = request(1, "vendor_id=1", LEGACY);
    check(&["1:a:0", "1:b:2", "1:c:0"], &[one], None, "b:1 c:0");
}

#[test]
fn devices_are_as_near_as_their_policy_wants() {
    let cell = |id, socket| crate::domain::NumaCell { id, socket, ..Default::default() };
    let host = NumaTopology { cells: vec![cell(0, Some(0)), cell(1, Some(0)), cell(2, Some(1))] };
    let near = Some(Near { host: &host, cells: &[0] });
    let texts = ["1:far@2:4", "1:beside@1:4", "1:somewhere:4", "1:on@0:1"];
    let ask = |count, policy| [request(count, "vendor_id=1", policy)];
    let short = |count, suit| format!("PCI request 0 wants {count} devices: {suit} suit it");
    let all = "far:4 beside:4 somewhere:4";
    for policy in [PciNumaPolicy::Required, PciNumaPolicy::Socket, LEGACY, PciNumaPolicy::Preferred]
    {
        check(&texts, &ask(1, policy), near, all);
    }
    check(&texts, &ask(2, PciNumaPolicy::Required), near, &short(2, 1));
    check(&texts, &ask(2, PciNumaPolicy::Socket), near, "far:4 beside:2 somewhere:4 on:1");
    check(&texts, &ask(6, PciNumaPolicy::Socket), near, &short(6, 5));
    check(&texts, &ask(2, LEGACY), near, "far:4 beside:4 somewhere:2 on:1");
    check(&texts, &ask(6, LEGACY), near, &short(6, 5));
    check(&texts, &ask(6, PciNumaPolicy::Preferred), near, "far:3 beside:4");
    check(&texts, &ask(6, PciNumaPolicy::Required), None, "beside:2 somewhere:4 on:1");
    let unknown = NumaTopology { cells: vec![cell(0, Some(0)), cell(1, None)] };
    let near = Some(Near { host: &unknown, cells: &[0] });
    check(&texts, &ask(2, PciNumaPolicy::Socket), near, &short(2, 0));
}

#[test]
fn devices_that_are_given_only_by_name_make_near_pools_enough_as_in_nova() {
    let cell = |id| crate::domain::NumaCell { id, ..Default::default() };
    let host = NumaTopology { cells: vec![cell(0), cell(1)] };
    let near = Some(Near { host: &host, cells: &[0] });
    let ask = [request(2, "vendor_id=1", PciNumaPolicy::Preferred)];
    let short = "PCI request 0 wants 2 devices: 0 suit it";
    check(&["1:a@0/type-PF:2", "1:b@1:2"], &ask, near, short);
    check(&["1:a@0/type-PF:1", "1:b@1:2"], &ask, near, "a:1");
}

/// A pool as Nova has it: a map of text, and a count.
type Plain = (BTreeMap<String, String>, u32);

fn plain(pool: &PciPool) -> Plain {
    let mut map = pool.tags.clone();
    map.insert("vendor_id".to_owned(), pool.vendor_id.clone());
    map.insert("product_id".to_owned(), pool.product_id.clone());
    map.extend(pool.dev_type.clone().map(|kind| ("dev_type".to_owned(), kind)));
    map.extend(pool.numa_node.map(|node| ("node".to_owned(), node.to_string())));
    (map, pool.count)
}

/// The socket of each cell.
type Sockets = BTreeMap<u32, Option<u32>>;

/// The rules as a list of steps on lists of maps: what is left, in the order in which it is taken.
fn by_the_book(
    pools: &PciPools,
    requests: &[PciRequest],
    near: Option<(&[u32], &Sockets)>,
) -> Option<Vec<Plain>> {
    let mut left: Vec<Plain> = pools.pools.iter().map(plain).collect();
    left.sort_by_key(|(map, _)| map.keys().filter(|key| *key != "node").count());
    for request in requests {
        let matches = |map: &BTreeMap<String, String>| {
            let has = |(key, value): (&String, &String)| {
                map.get(key).map(|value| value.to_lowercase()) == Some(value.to_lowercase())
            };
            request.spec.iter().any(|spec| spec.iter().all(has))
        };
        let sum = |pools: &[Plain]| pools.iter().map(|(_, count)| count).sum::<u32>();
        let mut fit: Vec<Plain> = left.iter().filter(|(map, _)| matches(map)).cloned().collect();
        if let Some((cells, sockets)) = near {
            let on = |nodes: &[u32], none: bool| -> Vec<Plain> {
                let is_on = |(map, _): &&Plain| match map.get("node") {
                    Some(node) => nodes.contains(&node.parse().unwrap()),
                    None => none,
                };
                fit.iter().filter(is_on).cloned().collect()
            };
            let policy = request.numa_policy;
            let first = on(cells, false);
            let second = on(cells, true);
            fit = if policy == PciNumaPolicy::Required || sum(&first) >= request.count {
                first
            } else if policy == PciNumaPolicy::Socket {
                if sockets.values().any(Option::is_none) {
                    Vec::new()
                } else {
                    let chosen: Vec<_> = cells.iter().map(|cell| sockets[cell]).collect();
                    let beside = sockets.iter().filter(|(_, socket)| chosen.contains(socket));
                    on(&beside.map(|(cell, _)| *cell).collect::<Vec<_>>(), false)
                }
            } else if policy == PciNumaPolicy::Legacy || sum(&second) >= request.count {
                second
            } else {
                let far = fit.iter().filter(|pool| !second.contains(pool)).cloned();
                second.iter().cloned().chain(far).collect()
            };
        }
        for kind in ["type-PF", "vdpa"] {
            let asks =
                |spec: &BTreeMap<String, String>| spec.get("dev_type").is_some_and(|k| k == kind);
            if !request.spec.iter().any(asks) {
                fit.retain(|(map, _)| map.get("dev_type").is_none_or(|has| has != kind));
            }
        }
        if fit.is_empty() || sum(&fit) < request.count {
            return None;
        }
        let mut wanted = request.count;
        for pool in fit {
            let at = left.iter().position(|other| *other == pool).unwrap();
            let taken = wanted.min(pool.1);
            wanted -= taken;
            if taken == pool.1 {
                left.remove(at);
            } else {
                left[at].1 -= taken;
            }
            if wanted == 0 {
                break;
            }
        }
    }
    Some(left)
}

fn any_pool() -> impl Strategy<Value = PciPool> {
    let kind = prop::option::of(prop_oneof![Just("type-PF"), Just("vdpa"), Just("type-VF")]);
    let tag = prop::option::weighted(0.3, prop_oneof![Just("net0"), Just("NET0"), Just("net1")]);
    (("[12]", "[aA]"), prop::option::of(0_u32..4), kind, 0_u32..5, tag).prop_map(
        |((vendor_id, product_id), numa_node, kind, count, tag)| PciPool {
            vendor_id,
            product_id,
            numa_node,
            dev_type: kind.map(str::to_owned),
            count,
            tags: tag.map(|tag| ("net".to_owned(), tag.to_owned())).into_iter().collect(),
        },
    )
}

fn any_request() -> impl Strategy<Value = PciRequest> {
    let spec = prop_oneof![
        Just("vendor_id=1"),
        Just("product_id=A"),
        Just("product_id=a dev_type=type-PF"),
        Just("vendor_id=2 dev_type=vdpa"),
        Just("net=Net0"),
    ];
    let policy = prop_oneof![
        Just(PciNumaPolicy::Required),
        Just(PciNumaPolicy::Socket),
        Just(PciNumaPolicy::Preferred),
        Just(PciNumaPolicy::Legacy),
    ];
    (0_u32..6, prop::collection::vec(spec, 1..3), policy).prop_map(|(count, specs, numa_policy)| {
        let spec = specs.iter().map(|spec| pairs(spec.split(' '))).collect();
        PciRequest { count, spec, numa_policy }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_is_taken_is_what_the_rules_say_step_by_step(
        pools in prop::collection::vec(any_pool(), 0..6).prop_map(|pools| PciPools { pools }),
        requests in prop::collection::vec(any_request(), 0..4),
        cells in prop::option::of(prop::collection::btree_set(0_u32..4, 1..3)),
        sockets in prop::collection::vec(prop::option::weighted(0.95, 0_u32..2), 4),
    ) {
        let cell = |(id, socket): (u32, &Option<u32>)| {
            crate::domain::NumaCell { id, socket: *socket, ..Default::default() }
        };
        let host = NumaTopology { cells: (0..).zip(&sockets).map(cell).collect() };
        let cells: Option<Vec<u32>> = cells.map(|cells| cells.into_iter().collect());
        let near = cells.as_ref().map(|cells| Near { host: &host, cells });
        let sockets: Sockets = (0..).zip(sockets).collect();
        let expected = by_the_book(&pools, &requests, cells.as_deref().map(|c| (c, &sockets)));
        let mut after = pools.clone();
        let taken = after.take(&requests, near);
        prop_assert_eq!(pools.check(&requests, near).err(), taken.err());
        let sorted = |mut left: Vec<Plain>| {
            left.sort();
            left
        };
        let left = after.pools.iter().map(plain).collect();
        match expected {
            Some(expected) => prop_assert_eq!((Ok(()), sorted(left)), (taken, sorted(expected))),
            None => prop_assert_eq!((true, after), (taken.is_err(), pools)),
        }
    }
}
