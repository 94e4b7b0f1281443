//! Traces of clusters: Alibaba's and Google's.

use nova_sched::sim::trace::{Format, ReadOptions};

use super::{check, check_with, machine};

/// 64 vCPUs, 1000 MiB, 100 GiB.
fn options() -> ReadOptions {
    ReadOptions::default().with_machine(machine(64, 1000, 100))
}

#[test]
fn alibaba_of_2017_pairs_events() {
    check_with(
        &options(),
        Format::Alibaba2017,
        "0,Create,1,292,4,0.5,0.011,0|1|2|3\n\
         50,Create,2,292,1.5,0.0001,0,4|5\n\
         60,Remove,1,292,4,0.5,0.011,0|1|2|3\n\
         70,Remove,3,292,4,0.5,0.01,\n\
         80,Create,4,292,4,1.5,0.01,\n\
         90,Vanish,4,292,4,1.5,0.01,\n",
        &[
            "line 5: plan_mem: \"1.5\" is not allowed; allowed: 0 to 1 machine",
            "line 6: event: \"Vanish\" is not allowed; allowed: Create or Remove",
            "line 4: vm 3 goes, but is not there",
            "1: vm 1 0-60 4x500 disk 2",
            "2: vm 2 50-on 2x1",
        ],
    );
}

#[test]
fn alibaba_of_2018_takes_the_first_sight_of_a_container() {
    check_with(
        &options(),
        Format::Alibaba2018,
        "c_7,m_2556,300,app_5052,started,400,400,1.56\n\
         c_7,m_2556,200,app_5052,allocated,400,400,1.56\n\
         c_5,m_2557,250,app_5052,started,150,400,100\n\
         c_6,m_2557,250,app_5052,started,150,400,101\n\
         x_6,m_2557,250,app_5052,started,150,400,1\n",
        &[
            "line 4: mem_size: \"101\" is not allowed; allowed: 0 to 100 hundredths of a machine",
            "line 5: container_id: \"x_6\" is not allowed; allowed: c_ and a number",
            "2: vm 7 200-on 4x16",
            "3: vm 5 250-on 2x1000",
        ],
    );
}

#[test]
fn alibaba_of_2018_has_a_row_for_each_instance_of_a_task() {
    check_with(
        &options(),
        Format::Alibaba2018Batch,
        "M1,2,j_1,1,Terminated,500,600,100,0.2\n\
         R2_1,1,j_1,1,Terminated,0,20,50,0.3\n\
         R3,1,j_1,1,Waiting,0,0,50,0.3\n\
         R4,1,j_1,1,Running,510,0,50,0.3\n\
         R5,1,j_1,1,Failed,510,509,50,0.3\n\
         R6,1,j_1,1,Failed,510,519,,0.3\n",
        &[
            "line 3: tells of no time at which it runs",
            "line 5: ends at 509 s, before it arrives at 510 s",
            "line 6: plan_cpu: \"\" is not allowed; allowed: 0 to 409600 hundredths of a core",
            "2: vm 3 0-20 1x3",
            "1: vm 1 500-600 1x2",
            "1: vm 2 500-600 1x2",
            "4: vm 4 510-on 1x3",
        ],
    );
}

#[test]
fn alibaba_of_2023_has_priorities() {
    check(
        Format::Alibaba2023,
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n\
         openb-pod-0017,88000,327680,8,1000,,Burstable,Succeeded,200,300,200\n\
         openb-pod-0022,4001,15258,1,220,V100M16|V100M32,BE,Running,100,,100\n\
         openb-pod-0035,16000,0,1,1000,,LS,Pending,150,160,\n\
         openb-pod-0036,16000,1,1,1000,,Gold,Pending,150,160,\n",
        &[
            "line 5: qos: \"Gold\" is not allowed; allowed: BE, Burstable, LS or Guaranteed",
            "3: vm 3 100-on 5x15258",
            "4: vm 4 150-160 16x1 priority 2",
            "2: vm 2 200-300 88x327680 priority 1",
        ],
    );
}

#[test]
fn google_of_2011_has_a_row_for_each_run() {
    let event = |time_s: u64, job: u64, kind: u8, request: &str| {
        format!("{}000000,,{job},0,,{kind},user==,1,9,{request},0\n", time_s)
    };
    let request = "0.03125,0.0159,0.011";
    let text = event(0, 3, 0, request)
        + &event(0, 3, 1, request)
        + &event(600, 4, 0, request)
        + &event(610, 4, 5, request)
        + &event(700, 3, 2, request)
        + &event(800, 3, 1, "0.5,0.5,")
        + &event(900, 3, 8, "1,1,1")
        + &event(950, 6, 1, ",0.5,0.1")
        + "9223372036854775807,,3,0,,4,user==,1,9,0.5,0.5,0.1,0\n";
    check_with(
        &options(),
        Format::Google2011,
        &text,
        &[
            "line 8: CPU request: \"\" is not allowed; allowed: 0 to 1 machine",
            "2: vm 2 0-700 2x16 disk 2 priority 9",
            "6: vm 6 800-on 32x500 priority 9",
        ],
    );
}

#[test]
fn google_of_2019_passes_over_what_runs_inside_allocs() {
    let event = |time: u64, kind: &str, more: &str| {
        format!(
            "{{\"time\":\"{time}000000\",\"type\":{kind},\"collection_id\":\"7\",\"instance_index\":\"2\",\
             \"priority\":\"450\",\"resource_request\":{{\"cpus\":0.25,\"memory\":0.0159}}{more}}}\n"
        )
    };
    let text = event(600, "\"SUBMIT\"", "")
        + &event(601, "3", "")
        + &event(602, "3", ",\"alloc_collection_id\":\"99\"")
        + &event(700, "\"FINISH\"", ",\"collection_type\":\"1\"")
        + &event(800, "\"SCHEDULE\"", ",\"alloc_collection_id\":0,\"constraint\":[]")
        + &event(900, "11", "")
        + "{\"time\":1,\"type\":3,\"collection_id\":8,\"instance_index\":0}\n";
    check_with(
        &options(),
        Format::Google2019,
        &text,
        &[
            "line 6: type: \"11\" is not allowed; allowed: 0 to 10 or the name of an event",
            "line 7: cpus: \"nothing\" is not allowed; allowed: 0 to 1 machine",
            "2: vm 2 601-700 16x16 priority 225",
            "5: vm 5 800-on 16x16 priority 225",
        ],
    );
}
