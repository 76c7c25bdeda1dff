//! What the vendor is asked.

use super::super::samples::{delivered, event, raw, streamed};
use super::*;
use serde_json::json;

fn asked(uri: &str, told: &[streamkeeper_sse::OwnedEvent]) -> Option<Resume> {
    request(&uri.parse().unwrap(), &mut delivered(told))
}

#[test]
fn the_request_names_the_response_and_the_last_number() {
    let told = &streamed("resp_68a-B_1=", "msg_1", &["a", "b"])[..5];
    let resume = asked("/v1/responses", told).unwrap();
    let wanted = "/v1/responses/resp_68a-B_1=?stream=true&starting_after=4".parse().unwrap();
    assert_eq!(resume, Resume { method: Method::GET, uri: wanted, last_event_id: None, keep_body: false });
}

#[test]
fn the_callers_query_is_kept_but_for_what_we_say_ourselves() {
    let told = &streamed("resp_1", "msg_1", &["a"])[..3];
    let uri = asked("/openai/responses?api-version=preview&stream=false&&starting_after=9&x=%20", told).unwrap().uri;
    assert_eq!(uri, "/openai/responses/resp_1?api-version=preview&x=%20&stream=true&starting_after=2");
}

#[test]
fn without_an_id_or_a_number_nothing_is_asked() {
    let told = streamed("resp_1", "msg_1", &["a"]);
    assert_eq!(asked("/v1/responses", &told[2..4]), None);
    assert_eq!(asked("/v1/responses", &[]), None);
    let mut unnumbered = delivered(&told[..3]).chain([raw(r#"{"type":"response.output_text.delta"}"#)]);
    assert_eq!(request(&Uri::from_static("/v1/responses"), &mut unnumbered), None);
}

#[test]
fn an_id_that_could_change_the_path_is_not_believed() {
    let created = |id: &str| event(&json!({"type": "response.created", "sequence_number": 0, "response": {"id": id}}));
    for id in ["", "..", "a/b", "a?b", "a#b", "a b", "a%2f", "é", "a\r\n", &"x".repeat(ID_CAP + 1)] {
        assert_eq!(asked("/v1/responses", &[created(id)]), None, "{id:?}");
    }
    assert!(asked("/v1/responses", &[created("resp_1")]).is_some());
}
