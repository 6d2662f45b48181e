"""The bodies of tests from other rooms, on the booted host (`conftest.py`).

An import is all that it takes, if a test uses no more than fixtures that are there.
"""

from tests.attach.test_attach import (
    test_a_container_reaches_a_machine_beyond_as_the_host,
    test_containers_have_different_addresses_and_reach_each_other,
    test_the_host_and_its_containers_reach_each_other,
)
from tests.attach.test_share import (
    test_port_maps_of_either_apply,
    test_watcher_bundle_writes_the_path_to_share,
)
from tests.bandwidth.test_limits import (
    test_what_counts_is_the_least,
)
from tests.networks.test_announce import (
    test_a_neighbour_and_the_host_reach_the_next_at_once,
)
from tests.networks.test_sysctls import (
    test_they_are_set_before_the_first_instruction,
)
from tests.policy.test_closed import (
    test_nothing_passes_while_rules_are_flushed_and_healed,
)
from tests.policy.test_connections import (
    test_a_sandbox_cannot_fill_the_table_of_connections,
)
from tests.ports.test_publish import (
    test_a_dual_stack_container_is_reached_by_ipv6_as_well,
    test_a_dual_stack_container_reaches_beyond_by_ipv6,
    test_a_published_port_is_reached_from_everywhere,
    test_a_udp_client_is_not_stuck_with_a_container_that_has_gone,
)
from tests.recovery.test_gap import (
    test_who_never_stops_sending_is_answered_after_a_reload,
)
from tests.recovery.test_heal import (
    test_connections_go_on_through_a_flush,
)
from tests.share.test_share_alone import (
    test_its_first_instruction_sees_what_one_sees_that_joined_by_path,
    test_its_port_maps_apply_and_go_with_it_alone,
    test_settings_of_its_bundle_are_those_of_the_shared_namespace,
    test_thirty_two_at_once_share_one,
)

__all__ = [
    "test_a_container_reaches_a_machine_beyond_as_the_host",
    "test_a_dual_stack_container_is_reached_by_ipv6_as_well",
    "test_a_dual_stack_container_reaches_beyond_by_ipv6",
    "test_a_neighbour_and_the_host_reach_the_next_at_once",
    "test_a_published_port_is_reached_from_everywhere",
    "test_a_sandbox_cannot_fill_the_table_of_connections",
    "test_a_udp_client_is_not_stuck_with_a_container_that_has_gone",
    "test_connections_go_on_through_a_flush",
    "test_containers_have_different_addresses_and_reach_each_other",
    "test_its_first_instruction_sees_what_one_sees_that_joined_by_path",
    "test_its_port_maps_apply_and_go_with_it_alone",
    "test_nothing_passes_while_rules_are_flushed_and_healed",
    "test_port_maps_of_either_apply",
    "test_settings_of_its_bundle_are_those_of_the_shared_namespace",
    "test_the_host_and_its_containers_reach_each_other",
    "test_they_are_set_before_the_first_instruction",
    "test_thirty_two_at_once_share_one",
    "test_watcher_bundle_writes_the_path_to_share",
    "test_what_counts_is_the_least",
    "test_who_never_stops_sending_is_answered_after_a_reload",
]
