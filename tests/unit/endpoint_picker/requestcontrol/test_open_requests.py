"""A request is remembered until its end under every id that a report may name it by, and then under none."""

from endpoint_picker.requestcontrol.open_requests import OpenRequests, PendingRequest


def test_a_request_is_found_by_each_of_its_ids_until_it_is_removed() -> None:
    requests = OpenRequests()
    pending = PendingRequest("r-1", 1.0, stream_id="s-1")
    requests.add("c-1", pending)
    assert (requests.of_request_id("r-1"), requests.of_stream_id("s-1"), requests.get("c-1")) == ("c-1", "c-1", pending)
    assert requests.remove("c-1") is pending
    assert (requests.of_request_id("r-1"), requests.of_stream_id("s-1"), requests.get("c-1")) == ("", "", None)
    assert requests.remove("c-1") is None
    assert requests.pending == {}


def test_requests_without_an_id_of_the_data_plane_are_not_found_by_its_absence() -> None:
    requests = OpenRequests()
    requests.add("c-1", PendingRequest("r-1", 1.0))
    assert requests.of_stream_id("") == ""
    requests.remove("c-1")


def test_a_shared_request_id_means_the_latest_and_is_kept_for_it() -> None:
    requests = OpenRequests()
    for number in (1, 2):
        requests.add(f"c-{number}", PendingRequest("same", 1.0))
    requests.remove("c-1")
    assert requests.of_request_id("same") == "c-2"
    requests.remove("c-2")
    assert requests.of_request_id("same") == ""


def test_those_seen_longest_ago_come_first() -> None:
    requests = OpenRequests()
    for number in range(4):
        requests.add(f"c-{number}", PendingRequest(f"r-{number}", float(number)))
    requests.renew("c-0", 3.5)
    assert list(requests.pending) == ["c-1", "c-2", "c-3", "c-0"]
    assert [pending.renewed for pending in requests.pending.values()] == [False, False, False, True]
    assert requests.seen_until(2.0) == ["c-1", "c-2"]
    assert requests.seen_until(0.5) == []
