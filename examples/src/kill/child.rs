//! The process that is killed.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock, ClockExt as _};
use nova_core::cloud::{Cloud, Project};
use nova_core::domain::RequestId;
use nova_core::seed::Seed;
use tokio::task::JoinSet;

use super::ground::{PROJECTS, lay, open, refused};
use super::load::Task;
use super::{Acknowledged, Count, JOB, Job, KillError, Part, Word};

/// Tasks that ask at the same time.
const TASKS: u64 = 6;

/// How long everything may take to finish.
const REST_LIMIT: Duration = Duration::from_secs(120);
/// How often somebody looks whether it has.
const REST_LOOK: Duration = Duration::from_millis(100);
/// How long agents get to compare their hosts with the records once more.
const SWEEPS: Duration = Duration::from_secs(1);

/// The job of this process, when it was started as a child.
pub fn job() -> Option<Job> {
    serde_json::from_str(&std::env::var(JOB).ok()?).ok()
}

/// Does the job, and says on standard output how it goes.
pub fn child(job: &Job) {
    // Whatever was written before on this line is not ours.
    println!();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(work(job)),
        Err(source) => Err(KillError::Process { doing: "start a runtime", source }),
    };
    if let Err(error) = done {
        say(&Word::Broken(crate::one_line(&error)));
    }
}

/// One line; it has left this process when the call returns.
fn say(word: &Word) {
    let Ok(mut line) = serde_json::to_string(word) else { return };
    line.push('\n');
    let mut out = std::io::stdout().lock();
    // A parent that does not listen any more is about to kill.
    drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
}

async fn work(job: &Job) -> Result<(), KillError> {
    let clock = super::ground::clock();
    let seed = Seed::new(job.seed);
    let cloud = open(&job.data_dir, seed, Arc::clone(&clock)).await?;
    let image = lay(&cloud).await?;
    say(&Word::Ready);
    match job.part {
        Part::Ground => {
            say(&Word::Counted(count(&cloud).await?));
            cloud.stop().await;
            Ok(())
        }
        Part::Load => {
            let mut tasks = JoinSet::new();
            for number in 0..TASKS {
                let project = PROJECTS[number as usize % PROJECTS.len()];
                let seed = seed.child_of("life", job.life.into()).child_of("task", number.into());
                let mut task = Task {
                    project: cloud.project(project.parse()?),
                    image,
                    clock: Arc::clone(&clock),
                    chance: seed.chance(),
                    name: format!("life-{}-task-{number}", job.life),
                    asked: 0,
                };
                tasks.spawn(async move {
                    loop {
                        match task.ask().await {
                            Ok(Some(acknowledged)) => {
                                let operation = acknowledged.operation;
                                say(&Word::Acknowledged(acknowledged));
                                if let Some(operation) = operation {
                                    task.perhaps_wait(operation).await?;
                                }
                            }
                            Ok(None) => {}
                            Err(error) => return Err::<(), KillError>(error),
                        }
                    }
                });
            }
            // While they ask, so that the doctor meets a cloud at work.
            examine(&cloud).await?;
            while let Some(ended) = tasks.join_next().await {
                match ended {
                    Ok(ended) => ended?,
                    Err(error) => say(&Word::Broken(error.to_string())),
                }
            }
            Ok(())
        }
        Part::Finish => {
            rest(&cloud, &*clock).await?;
            examine(&cloud).await?;
            delete_everything(&cloud).await?;
            rest(&cloud, &*clock).await?;
            examine(&cloud).await?;
            say(&Word::Counted(count(&cloud).await?));
            cloud.stop().await;
            Ok(())
        }
    }
}

/// Says what the doctor finds.
async fn examine(cloud: &Cloud) -> Result<(), KillError> {
    let checkup = cloud.admin().doctor().await.map_err(refused("examine the cloud"))?;
    for finding in &checkup.findings {
        say(&Word::Found(format!("live: {finding}")));
    }
    for (host, reason) in &checkup.unasked {
        say(&Word::Found(format!("live: host {host} could not be asked: {reason}")));
    }
    Ok(())
}

/// Waits until no operation is open.
async fn rest(cloud: &Cloud, clock: &dyn Clock) -> Result<(), KillError> {
    let begun = clock.now();
    loop {
        let checkup = cloud.admin().doctor().await.map_err(refused("examine the cloud"))?;
        if checkup.operations_open == 0 {
            break;
        }
        if clock.now().since(begun) > REST_LIMIT {
            say(&Word::Found(format!(
                "{} operations do not come to an end",
                checkup.operations_open
            )));
            break;
        }
        clock.sleep(REST_LOOK).await;
    }
    clock.sleep(SWEEPS).await;
    Ok(())
}

async fn count(cloud: &Cloud) -> Result<Count, KillError> {
    let census = cloud.admin().census().await.map_err(refused("count the records"))?;
    let checkup = cloud.admin().doctor().await.map_err(refused("examine the cloud"))?;
    let volumes = cloud.ports().volumes.list().await;
    Ok(Count {
        records: format!("{:?} {:?}", census.records, census.used),
        guests: checkup.guests,
        volumes: volumes.map_or(usize::MAX, |volumes| volumes.len()),
    })
}

/// Deletes all servers, volumes and floating IPs, and waits for it.
async fn delete_everything(cloud: &Cloud) -> Result<(), KillError> {
    for name in PROJECTS {
        let project = cloud.project(name.parse()?);
        let request =
            |what: String| -> Result<RequestId, KillError> { Ok(format!("end-{what}").parse()?) };
        let mut operations = Vec::new();
        for server in project.servers().await.map_err(refused("list servers"))? {
            let id = server.instance.id;
            let deleted = project.delete_server(request(id.to_string())?, id).await;
            operations.push(deleted.map_err(refused("delete a server"))?.operation);
        }
        wait(&project, operations).await?;
        let mut operations = Vec::new();
        for volume in project.volumes().await.map_err(refused("list volumes"))? {
            let id = volume.id;
            let deleted = project.delete_volume(request(id.to_string())?, id).await;
            operations.push(deleted.map_err(refused("delete a volume"))?.operation);
        }
        wait(&project, operations).await?;
        for floating in project.floating_ips().await.map_err(refused("list floating IPs"))? {
            let address = floating.address;
            let id = request(address.to_string())?;
            let (scope, id_text) = (name.to_owned(), id.to_string());
            let released = project.release_floating_ip(id, address).await;
            released.map_err(refused("release a floating IP"))?;
            let (request, operation) = (id_text, None);
            say(&Word::Acknowledged(Acknowledged { scope, request, operation }));
        }
    }
    Ok(())
}

async fn wait(
    project: &Project,
    operations: Vec<nova_core::domain::OpId>,
) -> Result<(), KillError> {
    for operation in operations {
        let ended = project.wait(operation).await.map_err(refused("wait for a deletion"))?;
        if ended.state != nova_core::domain::OpState::Done {
            say(&Word::Found(format!("{} did not succeed: {:?}", ended.kind.word(), ended.state)));
        }
    }
    Ok(())
}
