//! What every session store promises, as a list of cases that runs over each of them. A store joins with one line
//! at the end of this file; one that processes share joins with two.
//!
//! Black box: only the trait is used, and what a session itself shows. Each case gets two handles, see
//! `conformance/stores.rs`, and plays the pump itself.

mod replicas_support;
mod support;

#[path = "conformance/bench.rs"]
mod bench;
#[path = "conformance/finding.rs"]
mod finding;
#[path = "conformance/log.rs"]
mod log;
#[path = "conformance/many.rs"]
mod many;
#[path = "conformance/room.rs"]
mod room;
#[path = "conformance/shared.rs"]
mod shared;
#[path = "conformance/stores.rs"]
mod stores;

/// The cases of one file over one store.
macro_rules! cases {
    ($make:path; $($file:ident: $($case:ident)*;)*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::$file::$case($make).await;
            }
        )*)*
    };
}

/// All cases over one store.
macro_rules! conformance {
    ($store:ident, $make:path) => {
        mod $store {
            cases! { $make;
                finding:
                    what_was_opened_is_found_by_its_owner_and_listed
                    what_was_opened_near_is_found_far_by_its_owner_alone
                    a_foreign_session_is_as_good_as_an_unknown_one
                    a_removed_session_is_gone_with_its_names
                    a_session_removed_near_is_gone_far
                    the_same_request_under_the_same_once_name_joins
                    another_request_under_the_same_once_name_is_a_mismatch
                    a_once_name_of_a_failed_session_is_free_for_another_try
                    a_once_name_given_near_is_known_far
                    who_only_joins_or_mismatches_takes_no_place
                    the_newest_session_has_the_newest_name;
                log:
                    what_is_appended_near_is_read_everywhere_in_order_to_the_end
                    a_replay_from_each_position_is_the_same_everywhere
                    any_bytes_come_through_as_they_were
                    evicted_events_are_a_gap_for_who_followed_and_for_who_comes_late
                    the_first_end_is_the_end_everywhere
                    a_new_epoch_is_known_wherever_its_events_are;
                room:
                    no_more_sessions_run_than_allowed_and_an_ended_one_frees_its_place
                    one_caller_cannot_take_every_place
                    a_refused_caller_leaves_its_name_free
                    a_sweep_forgets_what_is_past_its_retention_and_nothing_else
                    a_finished_session_can_be_read_for_its_retention_and_no_longer
                    over_budget_finished_sessions_go_first_the_oldest_of_them_in_front
                    with_nothing_finished_the_growing_ring_gives_up_its_oldest_and_readers_are_told
                    forgotten_bytes_are_free_again;
                many:
                    two_writers_of_one_session_make_one_log
                    of_many_who_open_the_same_once_name_exactly_one_is_new
                    many_who_come_go_and_grow_at_once_leave_the_count_right
                    who_comes_while_others_make_room_is_let_in;
            }
        }
    };
}

/// The cases of stores that processes share.
macro_rules! conformance_of_shared {
    ($store:ident, $make:path) => {
        mod $store {
            cases! { $make;
                shared:
                    it_says_that_it_is_shared_and_where_it_keeps_things
                    clients_far_count_near_as_long_as_they_stay
                    who_stops_a_session_far_stops_it_near
                    when_the_owner_is_gone_another_one_goes_on
                    an_owner_that_says_goodbye_has_written_all_and_is_followed_at_once
                    of_several_heirs_exactly_one_goes_on_and_the_others_follow_it
                    a_stale_owner_cannot_write_and_its_clients_follow_the_new_one
                    a_finished_session_is_nobodys_to_take_over
                    who_was_away_for_less_than_its_lease_catches_up_and_stays_the_owner
                    what_is_read_far_counts_in_the_budget_there
                    who_took_over_and_never_heard_so_tries_again
                    an_heir_writes_the_whole_hash_again
                    who_follows_what_it_cannot_read_is_told
                    what_is_removed_while_it_is_written_stays_gone
                    who_joined_what_was_not_let_in_is_told_and_the_name_is_free
                    who_joined_what_is_then_refused_is_told_and_the_name_is_free
                    a_redis_that_forgot_the_scripts_learns_them_at_once;
            }
        }
    };
}

conformance!(memory, crate::stores::memory);
conformance!(redis, crate::stores::redis);
conformance_of_shared!(redis_between_processes, crate::stores::redis);
