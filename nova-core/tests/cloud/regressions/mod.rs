//! Bugs that somebody shipped, each replayed under a name that says what must be true instead.
//!
//! Bugs of peers, with the thread or advisory that tells them. `omicron` and `steno` are projects
//! of Oxide, OSSA are OpenStack's security advisories.
//!
//! | What happened | Told in | Test |
//! |---|---|---|
//! | An agent restarts and forgets its guests; they are made a second time | omicron#6763 | [`peers::a_host_that_forgets_its_guests_keeps_their_places_and_nothing_runs_twice`] |
//! | A start is undone while its deletion arrives: a counter goes below zero | omicron#5042 | [`peers::a_server_that_is_deleted_while_its_creation_goes_back_is_counted_out_once`] |
//! | A reservation without server withholds capacity for ever | omicron#10712 | [`peers::no_claim_outlives_its_server_however_the_server_ended`] |
//! | A host loses power, its servers are shown as running and stay down | omicron#10275, omicron#5798 | [`peers::a_host_without_power_is_seen_as_such_and_its_servers_run_elsewhere`] |
//! | Nothing starts or is deleted while any host hangs | omicron#4259 | [`peers::a_host_that_hangs_delays_only_what_needs_it`] |
//! | Reaper and restarter race: stopped, though it should run | omicron#9174, omicron#9177 | [`peers::a_server_that_is_rebooted_while_its_host_finds_it_stopped_ends_up_running`] |
//! | Destroyed while its host restarts: stopping for ever | omicron#10784 | [`peers::a_server_that_is_deleted_while_its_host_restarts_is_gone`] |
//! | Recovery loses what is beyond the first page | omicron#5948 | [`records::a_restart_takes_up_more_operations_than_a_page_holds`] |
//! | What is recovered belongs to another version of the code | omicron#10581 | `older::an_operation_of_the_first_step_lists_ends_by_those_of_today`, [`records::an_operation_of_a_newer_release_calls_for_a_person_and_changes_nothing`] |
//! | A crash hides an effect, the repeated step fails, nobody undoes it | steno#66 | [`records::an_effect_that_a_crash_hid_is_undone_when_its_step_fails_later`] |
//! | An undo fails, and the operation is stuck without a state for it | steno#138, steno#26 | [`records::an_operation_that_can_go_neither_on_nor_back_calls_for_a_person_and_holds_up_nobody`] |
//! | An evacuated server holds claims on both hosts | Nova, `orphaned-allocations.rst` | [`peers::an_evacuated_server_has_one_claim_before_and_after_its_old_host_returns`] |
//! | An old manager deletes what a new one just took | Nova, LP1853009 | [`peers::the_old_agent_of_a_host_takes_nothing_from_the_new_one`] |
//! | A rebuild goes round the checks; the correction claims twice | OSSA-2017-005, OSSA-2017-006 | [`records::a_rebuild_takes_no_image_that_the_server_could_not_be_created_from_and_claims_nothing_more`] |
//! | A move goes on after its server was deleted | OSSA-2015-015 | `moves::a_server_that_is_deleted_while_it_moves_leaves_nothing_on_either_host` |
//! | A move leaves an old description behind, and the next start plugs in what others have | OSSA-2020-006 | [`records::a_server_that_starts_where_it_was_before_has_no_volume_that_somebody_else_got_meanwhile`], `elsewhere::a_server_that_moves_does_not_become_what_an_earlier_attempt_left_behind` |
//! | A host did not confirm that it let go, and somebody else got the volume | OSSA-2023-003 | [`records::a_volume_is_nobody_elses_until_its_host_has_really_let_go`] |
//! | A changed rule does not reach the servers that run | OSSA-2015-021, OSSA-2013-030 | `security::a_change_of_a_group_reaches_every_host_of_the_project_before_its_operation_ends`, and with packets in nova-net: `cloud::a_server_that_the_api_made_is_reached_from_outside` |
//!
//! Bugs of our own, found by a test, a review or a simulation:
//!
//! | What happened | Test |
//! |---|---|
//! | A deletion that another one took over called for a person | `life::a_deletion_that_is_asked_for_twice_calls_for_nobody` |
//! | A volume was freed under a guest whose host had come back | [`own::a_volume_is_not_freed_under_a_guest_whose_host_was_silent_for_a_while`] |
//! | A view that was behind was taken for a takeover | [`own::a_view_that_is_behind_is_not_taken_for_a_takeover`] |
//! | An operation finished on top of the one that took its server over | [`own::an_operation_that_was_taken_over_leaves_everything_to_the_one_that_took_it`] |
//! | A failed association took the address from the server it worked for | [`own::an_association_that_fails_takes_the_address_from_nobody`] |
//! | An agent acted on a list that was minutes old | [`own::an_agent_does_not_act_on_a_list_that_is_old`] |
//! | A reboot by force did nothing after a gentle one | [`own::a_reboot_by_force_restarts_a_guest_that_a_gentle_one_has_just_reached`] |
//! | A move led a floating IP back that its owner had just led to another server | [`own::a_floating_ip_that_was_just_led_elsewhere_stays_there_when_its_old_server_moves_or_goes`] |
//! | An operator's word was relied on after it was taken back | [`own::a_deletion_asks_a_host_whose_operator_took_the_word_back_that_it_is_down`] |
//! | What a full reading did not show any more came back from a watch that was behind it, and a view whose watch had ended followed nothing any more | in `cloud/view/tests.rs` |
//! | A move that was undone left the records of its volumes at the other host | `sites::a_move_that_fails_when_its_volumes_have_left_has_them_back_where_it_was` |
//! | A host that was cut off while it stored an image left the bytes of one that was given up | `snapshots::an_image_that_was_given_up_is_taken_back_by_a_host_that_hung_when_it_had_stored_it` |
//! | A move or a shelving of a server whose guest was lost went back, could not start it, and called for a person | `moves::a_server_whose_guest_is_lost_is_not_moved_nor_shelved_and_calls_for_nobody` |
//! | A floating IP was led back, and no host was told | [`own::the_hosts_are_told_at_once_when_a_floating_ip_is_led_back`] |
//! | A server came back from its image while its old host still answered for its floating IPs | [`own::a_host_that_a_server_was_shelved_on_lets_go_of_its_floating_ips_before_another_answers`] |
//! | A server stayed shelved because of the network of one host | [`own::a_server_comes_back_on_another_host_when_the_network_of_the_first_does_not`] |
//! | An old word about a floating IP, retried, overrode a later one | [`own::the_last_word_about_a_floating_ip_is_not_overridden_by_one_that_is_retried`] |
//! | After a restart, an agent that was not there yet counted as a refusal | `faults::what_was_begun_before_a_restart_waits_for_its_host` |
//! | What an earlier attempt left on a host became the server | `elsewhere::a_server_that_moves_does_not_become_what_an_earlier_attempt_left_behind` |

mod hosts;
mod own;
mod parts;
mod peers;
mod records;
