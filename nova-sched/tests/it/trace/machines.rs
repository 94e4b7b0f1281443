//! Traces of virtual machines: Azure's two and Huawei's.

use nova_core::domain::*;
use nova_sched::sim::trace::{Format, ReadOptions, open};

use super::{all, check, check_with, machine};

/// A row of vmtable with these times, mean use, cores and GB.
fn vmtable(created: &str, deleted: &str, avgcpu: &str, cores: &str, gb: &str) -> String {
    format!("x/Y+3==,s4==,d5==,{created},{deleted},91.77,{avgcpu},20.75,Interactive,{cores},{gb}\n")
}

#[test]
fn azure_of_both_years_is_sorted_by_creation() {
    let text = vmtable("900", "1200", "0.72", "2", "3.5")
        + &vmtable("300", "300", "", "1", "0.75")
        + &vmtable("0", "2591700", "100", ">24", ">64")
        + &vmtable("300", "600", "12.34", "4", "32");
    check(
        Format::Azure,
        &text,
        &[
            "3: vm 3 0-2591700 30x71680 cpu 1000",
            "2: vm 2 300-300 1x768",
            "4: vm 4 300-600 4x32768 cpu 123",
            "1: vm 1 900-1200 2x3584 cpu 7",
        ],
    );
    let options = ReadOptions::default().with_over(Vcpus(48), MiB(131_072));
    check_with(
        &options,
        Format::Azure,
        &vmtable("0", "5", "1", ">24", ">64"),
        &["1: vm 1 0-5 48x131072 cpu 10"],
    );
}

#[test]
fn bad_rows_of_azure_come_first_with_their_lines() {
    let header = "vmid,subscriptionid,deploymentid,vmcreated,vmdeleted,maxcpu,avgcpu,p95maxcpu,vmcategory,vmcorecountbucket,vmmemorybucket\n";
    let text = header.to_owned()
        + &vmtable("0", "5", "1", "1", "1")
        + &vmtable("9", "5", "1", "1", "1")
        + &vmtable("0", "5", "NaN", "1", "1")
        + &vmtable("0", "5", "100.1", "1", "1")
        + &vmtable("0", "5", "1", "0", "1")
        + &vmtable("0", "5", "1", "1", "inf")
        + "1,2,3\n";
    check(
        Format::Azure,
        &text,
        &[
            "line 3: ends at 5 s, before it arrives at 9 s",
            "line 4: avgcpu: \"NaN\" is not allowed; allowed: empty, or 0 to 100 percent",
            "line 5: avgcpu: \"100.1\" is not allowed; allowed: empty, or 0 to 100 percent",
            "line 6: vmcorecountbucket: \"0\" is not allowed; allowed: 1 to 4096, or >24",
            "line 7: vmmemorybucket: \"inf\" is not allowed; allowed: a number of GB up to 65536, or >64",
            "line 8: 3 columns instead of 11",
            "2: vm 2 0-5 1x1024 cpu 10",
        ],
    );
}

#[test]
fn huawei_pairs_creations_and_deletions() {
    let text = "vmid,cpu,memory,time,type\n\
                10,4,8,50,0\n\
                11,1,2,60,0\n\
                10,4,8,70,1\n\
                10,1,1,70,0\n\
                12,1,1,80,0\n\
                12,1,1,80,1\n";
    check(
        Format::Huawei,
        text,
        &[
            "2: vm 10 50-70 4x8192",
            "3: vm 11 60-on 1x2048",
            "5: vm 10 70-on 1x1024",
            "6: vm 12 80-80 1x1024",
        ],
    );
}

#[test]
fn huawei_reports_what_does_not_pair() {
    let text = "vmid,cpu,memory,time,type\n\
                1,4,8,5,1\n\
                2,1,1,6,0\n\
                2,2,2,7,0\n\
                2,1,1,9,1\n\
                2,1,1,9,1\n\
                3,1,1,9,2\n";
    check(
        Format::Huawei,
        text,
        &[
            "line 7: type: \"2\" is not allowed; allowed: 0 (creation) or 1 (deletion)",
            "line 2: vm 1 goes, but is not there",
            "line 4: vm 2 is running already",
            "line 6: vm 2 goes, but is not there",
            "3: vm 2 6-9 1x1024",
        ],
    );
}

/// Reads these rows of `vm` with these of `vmType`.
fn packing(vms: &str, types: &str, options: ReadOptions) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (vm, vm_type) = (folder.path().join("vm.csv"), folder.path().join("vmType.csv"));
    let header = "vmId,tenantId,vmTypeId,priority,starttime,endtime\n";
    std::fs::write(&vm, super::gz(format!("{header}{vms}").as_bytes())).unwrap();
    let header = "id,vmTypeId,machineId,core,memory,hdd,ssd,nic\n";
    std::fs::write(&vm_type, format!("{header}{types}")).unwrap();
    all(open(&vm, None, &options.with_vm_types(vm_type)))
}

const TYPES: &str = "0,7,2,0.5,0.25,0,0.1,0.2\n1,7,1,0.07,0.125,,,0.2\n2,8,2,1,1,1,1,1\n";

#[test]
fn packing_takes_types_from_the_lowest_machine_or_the_named_one() {
    let vms = "0,5,7,0,1.5,2\n1,5,8,1,-3,0.25\n2,5,7,1,0,\n";
    let options = ReadOptions::default().with_machine(machine(100, 1000, 10));
    assert_eq!(
        packing(vms, TYPES, options.clone()),
        [
            "3: vm 1 0-21600 100x1000 disk 10",
            "4: vm 2 0-on 7x125",
            "2: vm 0 129600-172800 7x125 priority 1"
        ]
    );
    assert_eq!(
        packing(vms, TYPES, options.with_machine_id(1)),
        [
            "line 3: there is no VM type 8",
            "4: vm 2 0-on 7x125",
            "2: vm 0 129600-172800 7x125 priority 1",
        ]
    );
}

#[test]
fn packing_refuses_a_damaged_table_of_types_and_names_damaged_rows() {
    let options = ReadOptions::default;
    assert_eq!(
        packing("", "0,7,2,1.5,0.25,0,0,0\n", options()),
        ["the table of VM types: line 2: core: \"1.5\" is not allowed; allowed: 0 to 1 machine"]
    );
    let bad = packing("0,5,7,2,0,1\n1,5,7,0,0,-1\n2,5,7,0,2,1\n3,5,7,0,NaN,1\n", TYPES, options());
    assert_eq!(
        bad,
        [
            "line 2: priority: \"2\" is not allowed; allowed: 0 (high) or 1 (low)",
            "line 3: endtime: \"-1\" is not allowed; allowed: empty, or days from 0 to 10^6",
            "line 4: ends at 86400 s, before it arrives at 172800 s",
            "line 5: starttime: \"NaN\" is not allowed; allowed: days from -10^6 to 10^6",
        ]
    );
    let alone = "vmId,tenantId,vmTypeId,priority,starttime,endtime\n";
    let missing = "vm_types: \"nothing\" is not allowed; allowed: the CSV of the table vmType";
    check(Format::AzurePacking, alone, &[missing]);
}
