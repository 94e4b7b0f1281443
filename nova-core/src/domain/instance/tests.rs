//! The table of guards, against a second writing of it.

use super::*;
use crate::domain::Reboot;
use TaskState::*;
use VmState::*;

/// The table as the API promises it, written out a second time and by hand.
const PROMISE: &[(Action, &[VmState])] = &[
    (Action::Start, &[Stopped]),
    (Action::Stop, &[Active, Error]),
    (Action::Reboot(Reboot::Soft), &[Active]),
    (Action::Reboot(Reboot::Hard), &[Active, Paused, Suspended, Stopped, Error]),
    (Action::Pause, &[Active]),
    (Action::Unpause, &[Paused]),
    (Action::Suspend, &[Active]),
    (Action::Resume, &[Suspended]),
    (Action::AttachVolume, &[Active, Paused, Stopped, Resized]),
    (Action::DetachVolume, &[Active, Paused, Stopped, Resized]),
    (Action::Resize, &[Active, Stopped]),
    (Action::Migrate, &[Active, Stopped]),
    (Action::LiveMigrate, &[Active, Paused]),
    (Action::ConfirmResize, &[Resized]),
    (Action::RevertResize, &[Resized]),
    (Action::Evacuate, &[Active, Stopped, Rescued, Error]),
    (Action::Rebuild, &[Active, Stopped, Error]),
    (Action::Snapshot, &[Active, Paused, Suspended, Stopped]),
    (Action::Shelve, &[Active, Paused, Stopped]),
    (Action::Unshelve, &[ShelvedOffloaded]),
    (Action::Rescue, &[Active, Stopped, Error]),
    (Action::Unrescue, &[Rescued]),
    (
        Action::Delete,
        &[Building, Active, Paused, Suspended, Stopped, Resized, ShelvedOffloaded, Rescued, Error],
    ),
];

#[test]
fn every_action_in_every_state_is_allowed_exactly_as_promised() {
    let mut walked = 0;
    for action in Action::ALL {
        let states = PROMISE.iter().find(|(a, _)| *a == action).map(|(_, s)| *s).unwrap();
        for state in VmState::ALL {
            for task in TaskState::ALL.map(Some).into_iter().chain([None]) {
                let interrupts = match (action, task) {
                    (_, None) | (Action::Delete, _) => true,
                    (Action::Reboot(Reboot::Hard), Some(task)) => {
                        [Rebooting, RebootingHard, Pausing, Unpausing, Suspending, Resuming]
                            .contains(&task)
                    }
                    (Action::Evacuate, Some(task)) => {
                        [PoweringOff, PoweringOn, Rebooting, RebootingHard, Pausing, Suspending]
                            .contains(&task)
                    }
                    _ => false,
                };
                let promised = states.contains(&state) && interrupts;
                assert_eq!(action.is_allowed(state, task), promised, "{action} {state} {task:?}");
                walked += 1;
            }
        }
    }
    assert_eq!(walked, 23 * 9 * 24);
}

#[test]
fn an_action_ends_in_a_state_that_exists_and_only_delete_ends_in_none() {
    for action in Action::ALL {
        for state in action.allowed_states() {
            assert_eq!(action.result(*state).is_none(), action == Action::Delete);
        }
    }
}
