//! What a host can be told of its guests, as their daemon carries it out.

use std::process::Command;
use std::time::Duration;

use nova_core::clock::Meter;
use nova_core::domain::{ImageFormat, InstanceId, MiB, PowerState, Vcpus};
use nova_core::port::{GuestSpec, VirtDriver};
use nova_virt::domain::{CpuMode, CpuModel, DomainOptions, DomainSpec, Hypervisor};
use nova_virt::libvirt::LibvirtHost;

use crate::lab::{self, Way};

const PATIENCE: Duration = Duration::from_secs(5);

/// What `virsh` says of a guest.
fn virsh(uri: &str, verb: &str, guest: InstanceId) -> String {
    let name = DomainSpec::name_of(guest);
    let mut tool = Command::new("virsh");
    let said = tool.args(["--connect", uri, verb, &name]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap()
}

/// Whether a line says that this is so: `name : value`.
fn says(said: &str, name: &str, value: u64) -> bool {
    said.lines().filter_map(|line| line.split_once(':')).any(|(is, what)| {
        is.trim() == name && what.split_whitespace().next() == Some(&*value.to_string())
    })
}

#[tokio::test]
async fn a_container_has_no_more_than_its_memory_and_its_processors() {
    if !lab::is_here("a_container_has_no_more_than_its_memory_and_its_processors") {
        return;
    }
    let host = lab::host(Way::ALL[0].to("lxc:///system"), Hypervisor::Lxc, PATIENCE);
    let archive = std::fs::read(lab::guest_file("rootfs.tar")).unwrap();
    let (images, image) = lab::image(archive, ImageFormat::RootfsTar).await;
    let instance = InstanceId::from_u128(0x11);
    let spec = GuestSpec { instance, vcpus: Vcpus(2), ..lab::spec(image, 64) };
    host.create(&spec, &*images).await.unwrap();
    let time = virsh("lxc:///system", "schedinfo", instance);
    for (name, value) in [("cpu_shares", 2048), ("vcpu_period", 100_000), ("vcpu_quota", 200_000)] {
        assert!(says(&time, name, value), "{name} {value}: {time}");
    }
    let memory = virsh("lxc:///system", "memtune", instance);
    assert!(says(&memory, "hard_limit", 64 * 1024), "{memory}");
    host.remove(instance).await.unwrap();
}

#[tokio::test]
async fn what_is_waited_for_is_added_up_on_every_way_to_the_daemon() {
    if !lab::is_here("what_is_waited_for_is_added_up_on_every_way_to_the_daemon") {
        return;
    }
    for way in Way::ALL {
        let meter = Meter::new(std::sync::Arc::new(nova_core::clock::SystemClock::new()));
        let host = lab::host(way.to("qemu:///system"), Hypervisor::Qemu, PATIENCE);
        let host = host.with_meter(meter.clone());
        assert_eq!(meter.total(), Duration::ZERO);
        host.guests().await.unwrap();
        let once = meter.total();
        assert!(once > Duration::ZERO, "{way:?}");
        host.guests().await.unwrap();
        assert!(meter.total() > once, "{way:?}");
    }
}

/// Starts a guest with nothing on its disk, and removes it again: what `virsh` said of it.
async fn started(
    hypervisor: Hypervisor,
    number: u128,
    with: impl FnOnce(DomainOptions) -> DomainOptions,
) -> Result<String, nova_core::port::VirtError> {
    let (uri, directory) = ("qemu:///system", lab::folder(hypervisor.name()));
    let options = DomainOptions::new(hypervisor, directory.to_str().unwrap()).unwrap();
    let clock = std::sync::Arc::new(nova_core::clock::SystemClock::new());
    let host = LibvirtHost::new(Way::ALL[0].to(uri), with(options), clock).unwrap();
    let (images, image) = lab::image(vec![0; 1 << 20], ImageFormat::Raw).await;
    let instance = InstanceId::from_u128(number);
    let created = host.create(&GuestSpec { instance, ..lab::spec(image, 32) }, &*images).await;
    let power = host.guest(instance).await?.map(|guest| guest.power);
    let said = power.is_some().then(|| virsh(uri, "dumpxml", instance));
    host.remove(instance).await?;
    created?;
    assert_eq!(power, Some(PowerState::Running));
    Ok(said.unwrap_or_default())
}

#[tokio::test]
async fn qemu_starts_with_each_processor_that_it_can_show() {
    if !lab::is_here("qemu_starts_with_each_processor_that_it_can_show") {
        return;
    }
    let model = CpuMode::Named(CpuModel::new("Nehalem").unwrap());
    for (number, cpu) in [CpuMode::HostModel, model].into_iter().enumerate() {
        let shows = cpu.clone();
        let with = |options: DomainOptions| options.with_cpu(shows).with_translation_cache(MiB(32));
        let said = started(Hypervisor::Qemu, 0x21 + number as u128, with).await.unwrap();
        assert!(said.contains("<tb-cache unit='KiB'>32768</tb-cache>"), "{said}");
        let named = matches!(cpu, CpuMode::Named(_));
        assert!(!named || said.contains(">Nehalem</model>"), "{said}");
    }
}

/// Whatever would be better: what was chosen runs, or nothing does.
#[tokio::test]
async fn a_hypervisor_that_was_chosen_is_never_another() {
    if !lab::is_here("a_hypervisor_that_was_chosen_is_never_another") {
        return;
    }
    for (number, hypervisor) in [Hypervisor::Qemu, Hypervisor::Kvm].into_iter().enumerate() {
        match started(hypervisor, 0x31 + number as u128, |options| options).await {
            Ok(said) => {
                let kind = format!("<domain type='{}'", hypervisor.name());
                assert!(said.starts_with(&kind), "{said}");
            }
            Err(error) => assert_eq!(hypervisor, Hypervisor::Kvm, "{error}"),
        }
    }
}
