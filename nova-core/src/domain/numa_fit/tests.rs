//! The search against all permutations, and what a guest gets of a cell.

use proptest::prelude::*;

use super::*;
use crate::domain::{CpuPolicy, PciPool};

/// Nova's rules for one guest cell in one host cell, as its documentation tells them.
fn fits(host: &NumaCell, guest: &GuestCell, overcommit: Overcommit) -> bool {
    let pinned = matches!(guest.cpu_policy, Some(CpuPolicy::Dedicated | CpuPolicy::Mixed));
    let shares = !matches!(guest.cpu_policy, Some(CpuPolicy::Dedicated));
    let kib = guest.memory * 1024;
    let mut sizes: Vec<u64> = host.pages.iter().map(|pages| pages.size_kb).collect();
    sizes.sort_unstable();
    let free = |size: u64| {
        let pages = host.pages.iter().find(|pages| pages.size_kb == size);
        pages.is_some_and(|p| {
            (p.total as i64 - p.used as i64 - p.reserved as i64) * size as i64 >= kib as i64
                && kib.is_multiple_of(size)
        })
    };
    let memory = match guest.page_size {
        Some(PageSize::Small) => sizes.first().is_some_and(|size| free(*size)),
        Some(PageSize::Large) => sizes.iter().skip(1).any(|size| free(*size)),
        Some(PageSize::Any) => sizes.iter().any(|size| free(*size)),
        Some(PageSize::Kib(size)) => free(size),
        None => match sizes.first() {
            Some(size) if pinned => free(*size),
            Some(size) => {
                let pages = host.pages.iter().find(|pages| pages.size_kb == *size).unwrap();
                pages.total * size >= kib && kib.is_multiple_of(*size)
            }
            None if pinned => host.memory as i64 - host.memory_used as i64 >= guest.memory as i64,
            None => host.memory >= guest.memory,
        },
    };
    let n = guest.dedicated_vcpus.len();
    let free: BTreeSet<u32> = &host.dedicated_cpus - &host.pinned_cpus;
    let t = host.thread_siblings.iter().map(BTreeSet::len).max().unwrap_or(1);
    let f: Vec<usize> = host.thread_siblings.iter().map(|core| (core & &free).len()).collect();
    let threads = match guest.cpu_thread_policy {
        Some(CpuThreadPolicy::Isolate) => {
            let whole = f.iter().filter(|size| **size == t).count();
            (host.dedicated_cpus == host.shared_cpus || t == 1) && n > 0 && whole >= n
        }
        Some(CpuThreadPolicy::Require) => (2..=t).any(|count| {
            let cores = f.iter().filter(|size| **size >= count).count();
            cores > 0 && count * cores >= n
        }),
        _ => true,
    };
    let v = guest.shared_vcpus.len();
    memory
        && (!shares || v <= host.shared_cpus.len())
        && (!pinned || n <= free.len() && threads)
        && (!shares
            || host.shared_cpu_usage as f64 + v as f64
                <= host.shared_cpus.len() as f64 * overcommit.cpus.get()
                && (host.memory_used + guest.memory) as f64
                    <= host.memory as f64 * overcommit.memory.get())
}

/// The ids of the first permutation of host cells that does, tried one after the other.
fn first_permutation(
    host: &NumaTopology,
    guest: &GuestTopology,
    overcommit: Overcommit,
    pools: &PciPools,
    pci: &[PciRequest],
) -> Option<Vec<u32>> {
    let mut cells: Vec<&NumaCell> = host.cells.iter().collect();
    if cells.len() > guest.cells.len() {
        let count = |cell: &NumaCell| -> u32 {
            let on = pools.pools.iter().filter(|pool| pool.numa_node == Some(cell.id));
            on.map(|pool| pool.count).sum()
        };
        cells.sort_by_key(|cell| cell.memory_used as i64 - cell.memory as i64);
        if guest.cells[0].is_pinned() {
            cells.sort_by_key(|cell| std::cmp::Reverse(cell.free_cpus().len()));
        } else {
            cells.sort_by_key(|cell| cell.shared_cpu_usage);
        }
        if pci.is_empty() {
            cells.sort_by_key(|cell| count(cell));
        } else {
            cells.sort_by_key(|cell| std::cmp::Reverse(count(cell)));
        }
    }
    let mut chosen = Vec::new();
    permute(&cells, &mut chosen, guest.cells.len(), &|chosen: &[&NumaCell]| {
        let ids: Vec<u32> = chosen.iter().map(|cell| cell.id).collect();
        let near = Some(Near { host, cells: &ids });
        let fit =
            chosen.iter().zip(&guest.cells).all(|(host, guest)| fits(host, guest, overcommit));
        (fit && (pci.is_empty() || pools.check(pci, near).is_ok())).then_some(ids)
    })
}

fn permute<'a, T>(
    cells: &[&'a NumaCell],
    chosen: &mut Vec<&'a NumaCell>,
    count: usize,
    accept: &dyn Fn(&[&NumaCell]) -> Option<T>,
) -> Option<T> {
    if chosen.len() == count {
        return accept(chosen);
    }
    for cell in cells {
        if chosen.iter().all(|other| other.id != cell.id) {
            chosen.push(cell);
            if let Some(accepted) = permute(cells, chosen, count, accept) {
                return Some(accepted);
            }
            chosen.pop();
        }
    }
    None
}

fn any_cell(id: u32) -> impl Strategy<Value = NumaCell> {
    let pages = prop_oneof![
        Just(vec![]),
        (0_u64..6, 0_u64..3, 0_u64..2, 0_u64..3).prop_map(|(small, large, reserved, used)| vec![
            MemoryPages { size_kb: 2048, total: large, used, reserved: 0 },
            MemoryPages { size_kb: 4, total: small * 256, used: used * 128, reserved },
        ]),
    ];
    let first = id * 8;
    let cpus =
        (0_u32..5, 0_usize..9, prop::bool::weighted(0.3), prop_oneof![Just(1), Just(2), Just(3)]);
    let used = (0_u64..5, 0_u64..4, 0_u32..6, prop::collection::btree_set(first..first + 8, 0..5));
    (pages, cpus, used, prop::option::weighted(0.98, 0_u32..2)).prop_map(
        move |(
            pages,
            (shared, dedicated, same, threads),
            (memory, memory_used, usage, pins),
            socket,
        )| {
            let dedicated_cpus: BTreeSet<u32> = (first..first + 8).take(dedicated).collect();
            let all: Vec<u32> = (first..first + 8).collect();
            NumaCell {
                id,
                shared_cpus: match same {
                    true => dedicated_cpus.clone(),
                    false => (1000..1000 + shared).collect(),
                },
                pinned_cpus: &pins & &dedicated_cpus,
                dedicated_cpus,
                shared_cpu_usage: usage,
                memory,
                memory_used,
                thread_siblings: all.chunks(threads).map(|c| c.iter().copied().collect()).collect(),
                socket,
                pages,
            }
        },
    )
}

fn any_host() -> impl Strategy<Value = NumaTopology> {
    (1_u32..6).prop_flat_map(|count| {
        let cells: Vec<_> = (0..count).map(any_cell).collect();
        cells.prop_map(|cells| NumaTopology { cells })
    })
}

fn any_guest() -> impl Strategy<Value = GuestTopology> {
    let size = prop_oneof![
        4 => Just(None),
        1 => Just(Some(PageSize::Small)),
        1 => Just(Some(PageSize::Large)),
        1 => Just(Some(PageSize::Any)),
        1 => Just(Some(PageSize::Kib(2048))),
        1 => Just(Some(PageSize::Kib(8))),
    ];
    let policy = prop_oneof![
        Just(None),
        Just(Some(CpuPolicy::Shared)),
        Just(Some(CpuPolicy::Dedicated)),
        Just(Some(CpuPolicy::Mixed)),
    ];
    let threads = prop_oneof![
        2 => Just(None),
        1 => Just(Some(CpuThreadPolicy::Prefer)),
        1 => Just(Some(CpuThreadPolicy::Require)),
        1 => Just(Some(CpuThreadPolicy::Isolate)),
    ];
    let cells = prop::collection::vec((0_u64..4, 0_u32..4, 0_u32..4), 1..5);
    (cells, policy, threads, size).prop_map(|(cells, cpu_policy, cpu_thread_policy, page_size)| {
        let cell = |(id, (memory, shared, dedicated)): (u32, (u64, u32, u32))| GuestCell {
            id,
            memory,
            shared_vcpus: (id * 8..id * 8 + shared).collect(),
            dedicated_vcpus: (id * 8 + 4..id * 8 + 4 + dedicated).collect(),
            cpu_policy,
            cpu_thread_policy,
            page_size,
        };
        GuestTopology { cells: (0_u32..).zip(cells).map(cell).collect() }
    })
}

fn any_pci() -> impl Strategy<Value = (PciPools, Vec<PciRequest>)> {
    let pool = (prop::option::weighted(0.8, 0_u32..6), 0_u32..3, "[ab]");
    let pool = pool.prop_map(|(numa_node, count, product_id)| PciPool {
        vendor_id: "1".to_owned(),
        product_id,
        numa_node,
        count,
        ..PciPool::default()
    });
    let policy = prop_oneof![
        Just(PciNumaPolicy::Required),
        Just(PciNumaPolicy::Socket),
        Just(PciNumaPolicy::Preferred),
        Just(PciNumaPolicy::Legacy),
    ];
    let request = (1_u32..5, "[ab]", policy).prop_map(|(count, product, numa_policy)| {
        let spec = vec![[("product_id".to_owned(), product)].into()];
        PciRequest { count, spec, numa_policy }
    });
    let requests = prop_oneof![Just(vec![]), prop::collection::vec(request, 1..3)];
    (prop::collection::vec(pool, 0..6).prop_map(|pools| PciPools { pools }), requests)
}

fn any_overcommit() -> impl Strategy<Value = Overcommit> {
    let ratio = || prop_oneof![Just(1.0), Just(1.5), Just(2.0), Just(0.5)];
    let ratio = move || ratio().prop_map(|ratio| AllocationRatio::new(ratio).unwrap());
    (ratio(), ratio()).prop_map(|(cpus, memory)| Overcommit { cpus, memory })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_search_finds_the_first_of_all_permutations_that_does(
        host in any_host(),
        guest in any_guest(),
        (pools, pci) in any_pci(),
        overcommit in any_overcommit(),
    ) {
        let found = host.fit(&guest, overcommit, &pools, &pci);
        let expected = first_permutation(&host, &guest, overcommit, &pools, &pci);
        prop_assert_eq!(found.as_ref().ok().map(NumaFit::host_cells), expected, "{:?}", found);
        let Ok(found) = found else { return Ok(()) };
        for (guest, chosen) in guest.cells.iter().zip(&found.cells) {
            let cell = host.cells.iter().find(|cell| cell.id == chosen.host_cell).unwrap();
            let cpus: BTreeSet<u32> = chosen.pins.values().copied().collect();
            prop_assert!(cpus.is_subset(&cell.free_cpus()), "only free CPUs are given");
            let wanted = if guest.is_pinned() { guest.dedicated_vcpus.len() } else { 0 };
            prop_assert_eq!((cpus.len(), chosen.pins.len()), (wanted, wanted), "each its own");
        }
    }

    #[test]
    fn guests_that_fit_one_after_the_other_never_have_a_cpu_or_a_page_twice(
        mut host in any_host(),
        guests in prop::collection::vec(any_guest(), 1..6),
        overcommit in any_overcommit(),
    ) {
        let before: u64 = host.cells.iter().map(|cell| cell.pinned_cpus.len() as u64).sum();
        let mut given = before;
        for guest in guests {
            let Ok(fit) = host.fit(&guest, overcommit, &PciPools::default(), &[]) else { continue };
            host.claim(&guest, &fit);
            given += fit.cells.iter().map(|cell| cell.pins.len() as u64).sum::<u64>();
            for (guest, chosen) in guest.cells.iter().zip(&fit.cells) {
                let cell = host.cells.iter().find(|cell| cell.id == chosen.host_cell).unwrap();
                prop_assert!(cell.pinned_cpus.is_subset(&cell.dedicated_cpus));
                let asked = guest.page_size.is_some() || guest.is_pinned();
                for pages in cell.pages.iter().filter(|_| asked) {
                    let ours = Some(pages.size_kb) == chosen.page_size_kb;
                    prop_assert!(!ours || pages.used + pages.reserved <= pages.total);
                }
            }
        }
        let pinned: u64 = host.cells.iter().map(|cell| cell.pinned_cpus.len() as u64).sum();
        // A guest that wants cores for itself takes all their threads.
        prop_assert!(pinned >= given);
    }
}

/// `host` cells of one CPU and 1 MiB each, with one device at every cell.
fn wide(host: u32) -> (NumaTopology, PciPools) {
    let cell = |id| NumaCell { id, shared_cpus: [id].into(), memory: 1, ..NumaCell::default() };
    let pool = |id| PciPool {
        vendor_id: "1".to_owned(),
        product_id: "a".to_owned(),
        numa_node: Some(id),
        count: 1,
        ..PciPool::default()
    };
    let host = 0..host;
    let cells = host.clone().map(cell).collect();
    (NumaTopology { cells }, PciPools { pools: host.map(pool).collect() })
}

fn guest(cells: u32) -> GuestTopology {
    let cell = |id| GuestCell { id, memory: 1, shared_vcpus: [id].into(), ..GuestCell::default() };
    GuestTopology { cells: (0..cells).map(cell).collect() }
}

fn devices(count: u32) -> Vec<PciRequest> {
    let spec = vec![[("vendor_id".to_owned(), "1".to_owned())].into()];
    vec![PciRequest { count, spec, numa_policy: PciNumaPolicy::Required }]
}

fn check(hosts: u32, guests: u32, pci: u32, expected: Result<usize, NumaMisfit>) {
    let (host, pools) = wide(hosts);
    let pci = if pci == 0 { vec![] } else { devices(pci) };
    let found = host.fit(&guest(guests), Overcommit::default(), &pools, &pci);
    assert_eq!(found.map(|fit| fit.cells.len()), expected, "{hosts} {guests}");
}

#[test]
fn the_widest_guest_finds_its_place_on_the_widest_host() {
    check(64, 16, 0, Ok(16));
    check(64, 16, 16, Ok(16));
    check(64, 0, 0, Ok(0));
}

#[test]
fn the_search_looks_at_every_choice_of_sixteen_cells_and_gives_up_beyond() {
    check(16, 8, 9, Err(NumaMisfit::Devices));
    check(64, 16, 17, Err(NumaMisfit::TooManyWays));
}

#[test]
fn absurd_sizes_are_told_by_name() {
    check(65, 1, 0, Err(NumaMisfit::TooManyCells { cells: 65, max: 64 }));
    check(64, 17, 0, Err(NumaMisfit::TooManyCells { cells: 17, max: 16 }));
    check(1, 2, 0, Err(NumaMisfit::TooFewCells { host: 1, guest: 2 }));
}

#[test]
fn what_does_not_fit_says_whether_a_cell_is_too_large_or_two_want_the_same() {
    let (mut host, pools) = wide(2);
    let fit = |host: &NumaTopology, guest: &GuestTopology| {
        host.fit(guest, Overcommit::default(), &pools, &[]).map(|fit| fit.host_cells())
    };
    let mut guest = guest(2);
    assert_eq!(fit(&host, &guest), Ok(vec![0, 1]));
    host.cells[1].memory_used = 1;
    assert_eq!(fit(&host, &guest), Err(NumaMisfit::Together));
    guest.cells[1].memory = 9;
    assert_eq!(fit(&host, &guest), Err(NumaMisfit::Cell { cell: 1 }));
}

#[test]
fn cells_with_devices_are_kept_for_who_asks_for_them() {
    let (host, mut pools) = wide(3);
    pools.pools.remove(1);
    let place = |pci: &[PciRequest]| {
        let fit = host.fit(&guest(1), Overcommit::default(), &pools, pci);
        fit.map(|fit| fit.host_cells())
    };
    assert_eq!(place(&[]), Ok(vec![1]));
    assert_eq!(place(&devices(1)), Ok(vec![0]));
}

#[test]
fn cells_in_different_sockets_are_not_alike() {
    let (mut host, mut pools) = wide(4);
    pools.pools.drain(..3);
    for (cell, socket) in host.cells.iter_mut().zip([0, 1, 0, 1]) {
        cell.socket = Some(socket);
    }
    host.cells[3].memory_used = 1;
    let mut pci = devices(1);
    pci[0].numa_policy = PciNumaPolicy::Socket;
    let fit = host.fit(&guest(1), Overcommit::default(), &pools, &pci);
    assert_eq!(fit.map(|fit| fit.host_cells()), Ok(vec![1]));
}

#[test]
fn a_claim_counts_all_that_a_guest_gets_and_nothing_elsewhere() {
    let pages = vec![
        MemoryPages { size_kb: 4, total: 1024, used: 0, reserved: 0 },
        MemoryPages { size_kb: 2048, total: 8, used: 1, reserved: 0 },
    ];
    let cell = |id| NumaCell {
        id,
        shared_cpus: [10, 11].into(),
        dedicated_cpus: [0, 1].into(),
        thread_siblings: vec![[0].into(), [1].into()],
        memory: 20,
        memory_used: 2,
        shared_cpu_usage: 1,
        pages: pages.clone(),
        ..NumaCell::default()
    };
    let mut host = NumaTopology { cells: vec![cell(0), cell(1)] };
    let mixed = GuestCell {
        memory: 8,
        shared_vcpus: [1].into(),
        dedicated_vcpus: [0].into(),
        cpu_policy: Some(CpuPolicy::Mixed),
        page_size: Some(PageSize::Large),
        ..GuestCell::default()
    };
    let guest = GuestTopology { cells: vec![mixed] };
    let fit = host.fit(&guest, Overcommit::default(), &PciPools::default(), &[]).unwrap();
    host.claim(&guest, &fit);
    let mut expected = cell(0);
    (expected.memory_used, expected.shared_cpu_usage) = (10, 2);
    expected.pinned_cpus = [0].into();
    expected.pages[1].used = 5;
    assert_eq!(host.cells, [expected, cell(1)]);
}

#[test]
fn who_isolates_its_cpus_takes_whole_cores() {
    let cpus: BTreeSet<u32> = (0..8).collect();
    let core = |first| [first, first + 1].into();
    let cell = NumaCell {
        shared_cpus: cpus.clone(),
        dedicated_cpus: cpus,
        memory: 8,
        thread_siblings: [0, 2, 4, 6].map(core).into(),
        ..NumaCell::default()
    };
    let mut host = NumaTopology { cells: vec![cell] };
    let isolated = GuestTopology {
        cells: vec![GuestCell {
            memory: 1,
            dedicated_vcpus: [0, 1].into(),
            cpu_policy: Some(CpuPolicy::Dedicated),
            cpu_thread_policy: Some(CpuThreadPolicy::Isolate),
            ..GuestCell::default()
        }],
    };
    let place = |host: &mut NumaTopology| {
        let fit = host.fit(&isolated, Overcommit::default(), &PciPools::default(), &[])?;
        host.claim(&isolated, &fit);
        Ok(fit.cells[0].pins.values().copied().collect::<Vec<u32>>())
    };
    assert_eq!(place(&mut host), Ok(vec![0, 2]));
    assert_eq!(host.cells[0].pinned_cpus, [0, 1, 2, 3].into());
    assert_eq!(place(&mut host), Ok(vec![4, 6]));
    assert_eq!(place(&mut host), Err(NumaMisfit::Cell { cell: 0 }));
}
