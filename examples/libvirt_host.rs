//! A private cloud on this machine: real guests, real networks, from nothing to nothing.
//!
//! ```text
//! cargo run --release -p nova-examples --features libvirt --example libvirt_host
//! ```
//!
//! As root on Debian. It installs what is missing, makes a small guest of Debian's kernel and
//! busybox, and boots it under QEMU and as a container: on a Flat-DHCP network, reached by floating
//! IPs, with a volume, through a restart of the host's agent; a second host joins, and a machine is
//! resized onto it. It checks what it claims, measures how long everything takes and how much of a
//! boot is the cloud's own, and leaves nothing behind.
//!
//! All of it happens in namespaces of its own, with a libvirt daemon of its own, so that nothing of
//! the machine is changed. With `--here` it is the machine's daemon and network, and no second host.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nova_examples::libvirt_host::{Options, prepare, run};
use nova_examples::one_line;
use nova_examples::private_cloud::{Screen as _, Terminal};

/// A private cloud on this machine's libvirt.
#[derive(Debug, Parser)]
struct Arguments {
    /// Use the machine's own libvirt daemon and network instead of a world of one's own.
    #[arg(long)]
    here: bool,
    /// Boot so many more containers, all at once.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=200))]
    more: u16,
    /// Let so many simulated hosts join at the end, and say what the process takes then.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1000))]
    simulated: u16,
    /// The folder of the guest's files; they are made there when they are missing.
    #[arg(long, value_name = "DIR", default_value = "target/guest")]
    guest: PathBuf,
    /// Everything is prepared: tell the story.
    #[arg(long, hide = true)]
    prepared: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let told = if arguments.prepared || arguments.here {
        tell(&arguments)
    } else {
        prepare::in_a_world(&arguments.guest, arguments.more, arguments.simulated)
    };
    match told {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

fn tell(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if !arguments.prepared {
        prepare::everything(&arguments.guest)?;
    }
    let options = Options::new(&arguments.guest).with_more(arguments.more);
    let options = options.with_simulated(arguments.simulated);
    let mut screen = Terminal::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let checks = runtime.block_on(run(&options, &mut screen))?;
    let failed: Vec<&str> =
        checks.iter().filter(|(_, holds)| !holds).map(|(claim, _)| claim.as_str()).collect();
    if failed.is_empty() {
        screen.say(&format!("All {} checks hold.", checks.len()));
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("not as it should be: {}", failed.join("; ")).into())
}
