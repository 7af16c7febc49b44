//! Request heads by RFC 9112 (HTTP/1.1), and where it refers there, RFC 9110. Each name begins with the section: `s2_2`
//! is 2.2 of RFC 9112, `h5_5` is 5.5 of RFC 9110. Where the RFC leaves a choice, the stricter one is expected: nobody
//! can be led astray about where a request ends.

use super::*;

#[derive(Debug, PartialEq)]
enum Outcome {
    /// Only a part has come.
    Waits,
    Served,
    Elsewhere,
    Refused(u16),
}
use Outcome::{Elsewhere, Refused, Served, Waits};

fn outcome(text: &[u8]) -> Outcome {
    match read(text, &Config::default(), &Known::default()) {
        Ok(None) => Waits,
        Err(refusal) => Refused(refusal.status),
        Ok(Some(head)) => match head.wish {
            Ok(Wish::Elsewhere { .. }) => Elsewhere,
            Ok(_) => Served,
            Err(refusal) => Refused(refusal.status),
        },
    }
}

/// A test for each line: its name, the bytes of the head, what comes of it.
macro_rules! heads {
    ($($name:ident: $text:expr => $outcome:expr;)*) => {
        $(#[test]
        fn $name() {
            let source = $text;
            let text: &[u8] = source.as_ref();
            assert_eq!(outcome(text), $outcome, "{:?}", String::from_utf8_lossy(text));
        })*
    };
}

const START: &str = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n";

fn with(lines: &str) -> String {
    format!("{START}{lines}\r\n")
}

heads! {
    // 2.2 Message Parsing
    s2_2_lines_end_in_cr_lf: with("") => Served;
    s2_2_a_bare_lf_ends_no_line: "GET /push?channel=a HTTP/1.1\nHost: h\n\n" => Refused(400);
    s2_2_a_bare_lf_in_one_line_is_enough: with("A: b\nC: d\r\n") => Refused(400);
    s2_2_a_bare_lf_as_the_last_line: format!("{START}\n") => Refused(400);
    s2_2_a_bare_cr_in_a_value: with("A: b\rc\r\n") => Refused(400);
    s2_2_a_bare_cr_in_a_name: with("A\rb: c\r\n") => Refused(400);
    s2_2_a_bare_cr_as_a_line_end: "GET /push?channel=a HTTP/1.1\rHost: h\r\r" => Refused(400);
    s2_2_empty_lines_before_the_request_line_are_skipped: format!("\r\n{}", with("")) => Served;
    s2_2_white_space_before_the_first_field: "GET /push?channel=a HTTP/1.1\r\n Host: h\r\n\r\n" => Refused(400);
    s2_2_a_head_without_its_empty_line_waits: START => Waits;
    s2_2_a_head_cut_between_cr_and_lf_waits: format!("{START}\r") => Waits;
    s2_2_octets_not_characters: b"GET /push?channel=a HTTP/1.1\r\nHost: h\r\nX: \xe4\xff\r\n\r\n" => Served;

    // 2.3 HTTP Version
    s2_3_version_1_1: with("") => Served;
    s2_3_version_1_0: "GET /push?channel=a HTTP/1.0\r\n\r\n" => Served;
    s2_3_version_2_0: "GET /push?channel=a HTTP/2.0\r\nHost: h\r\n\r\n" => Refused(400);
    s2_3_version_1_10: "GET /push?channel=a HTTP/1.10\r\nHost: h\r\n\r\n" => Refused(400);
    s2_3_version_in_lower_case: "GET /push?channel=a http/1.1\r\nHost: h\r\n\r\n" => Refused(400);
    s2_3_no_version_is_http_0_9: "GET /push?channel=a\r\n\r\n" => Refused(400);

    // 3 Request Line
    s3_two_spaces_between_method_and_target: "GET  /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Refused(400);
    s3_a_tab_for_a_space: "GET\t/push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Refused(400);
    s3_white_space_before_the_method: " GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Refused(400);
    s3_a_line_longer_than_wanted_is_414: format!("GET /push?channel={} HTTP/1.1\r\n", "x".repeat(20_000)) => Refused(414);
    s3_1_the_method_is_case_sensitive: "get /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Refused(405);
    s3_1_an_unknown_method: "BREW /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Refused(405);
    s3_1_a_method_that_is_no_token: "GE(T /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Refused(400);
    s3_2_no_host: "GET /push?channel=a HTTP/1.1\r\n\r\n" => Refused(400);
    s3_2_two_hosts: with("Host: h\r\n") => Refused(400);
    s3_2_two_hosts_in_either_case: with("hOST: other\r\n") => Refused(400);
    s3_2_two_hosts_in_1_0: "GET /push?channel=a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n" => Refused(400);
    s3_2_an_invalid_host: "GET /push?channel=a HTTP/1.1\r\nHost: a b\r\n\r\n" => Refused(400);
    s3_2_a_host_with_a_path: "GET /push?channel=a HTTP/1.1\r\nHost: a/b\r\n\r\n" => Refused(400);
    s3_2_a_host_with_user_information: "GET /push?channel=a HTTP/1.1\r\nHost: u@h\r\n\r\n" => Refused(400);
    s3_2_a_host_that_is_not_ascii: "GET /push?channel=a HTTP/1.1\r\nHost: hö\r\n\r\n" => Refused(400);
    s3_2_an_ipv6_host: "GET /push?channel=a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n" => Served;
    s3_2_an_empty_host: "GET /push?channel=a HTTP/1.1\r\nHost:\r\n\r\n" => Served;
    s3_2_white_space_in_the_target: "GET /push?channel=a b HTTP/1.1\r\nHost: h\r\n\r\n" => Refused(400);
    s3_2_1_origin_form: with("") => Served;
    s3_2_1_another_path: "GET /pushed?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Elsewhere;
    s3_2_2_absolute_form: "GET http://h/push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Served;
    s3_2_2_absolute_form_in_capitals: "GET HTTP://h/push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Served;
    s3_2_2_absolute_form_without_a_host: "GET http:///push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Refused(400);
    s3_2_2_absolute_form_of_another_scheme: "GET ftp://h/push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n" => Elsewhere;
    s3_2_2_absolute_form_elsewhere: "GET http://me@h/other HTTP/1.1\r\nHost: h\r\n\r\n" => Elsewhere;
    s3_2_3_authority_form_is_connect_s: "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n" => Elsewhere;
    s3_2_4_asterisk_form: "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n" => Elsewhere;

    // 5 Field Syntax
    s5_a_line_without_a_colon: with("Nothing\r\n") => Refused(400);
    s5_an_empty_name: with(": x\r\n") => Refused(400);
    s5_names_are_tokens: with("A(b): c\r\n") => Refused(400);
    s5_names_have_no_spaces: with("A b: c\r\n") => Refused(400);
    s5_1_white_space_between_name_and_colon: with("A : b\r\n") => Refused(400);
    s5_1_a_tab_between_name_and_colon: with("A\t: b\r\n") => Refused(400);
    s5_1_white_space_between_a_length_s_name_and_colon: with("Content-Length : 5\r\n") => Refused(400);
    s5_1_white_space_around_a_value_is_no_part_of_it: with("Content-Length: \t 0 \t\r\n") => Served;
    s5_1_names_are_case_insensitive: with("CONTENT-length: 5\r\n") => Refused(400);
    s5_2_a_folded_line: with("A: b\r\n c\r\n") => Refused(400);
    s5_2_a_folded_line_by_a_tab: with("A: b\r\n\tc\r\n") => Refused(400);
    s5_2_a_folded_transfer_encoding: with("Transfer-Encoding:\r\n chunked\r\n") => Refused(400);
    h5_4_more_lines_than_wanted: with(&"A: b\r\n".repeat(101)) => Refused(413);
    h5_4_larger_fields_than_wanted: with(&format!("A: {}\r\n", "b".repeat(20_000))) => Refused(413);
    h5_5_a_nul_in_a_value: with("A: b\0c\r\n") => Refused(400);
    h5_5_a_control_character_in_a_value: with("A: b\x01c\r\n") => Refused(400);
    h5_3_a_field_of_one_value_twice: with("Origin: http://h\r\nOrigin: http://h\r\n") => Refused(400);
    h5_3_two_authorizations: with("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n") => Refused(400);

    // 6 Message Body: none, or one in chunks that is empty beyond doubt
    s6_1_transfer_encoding_waits_for_its_body: with("Transfer-Encoding: chunked\r\n") => Waits;
    s6_1_transfer_encoding_is_case_insensitive: with("Transfer-Encoding: ChunkeD\r\n") + "0\r\n\r\n" => Served;
    s6_1_transfer_encoding_twice: with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" => Refused(400);
    s6_1_transfer_encoding_in_a_list: with("Transfer-Encoding: chunked, chunked\r\n") + "0\r\n\r\n" => Refused(400);
    s6_1_transfer_encoding_and_another: with("Transfer-Encoding: gzip, chunked\r\n") + "0\r\n\r\n" => Refused(400);
    s6_1_transfer_encoding_with_a_parameter: with("Transfer-Encoding: chunked;q=1\r\n") + "0\r\n\r\n" => Refused(400);
    s6_1_an_empty_transfer_encoding: with("Transfer-Encoding:\r\n") + "0\r\n\r\n" => Refused(400);
    s6_1_a_length_before_the_transfer_encoding: with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" => Refused(400);
    s6_1_a_length_after_the_transfer_encoding: with("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n") + "0\r\n\r\n" => Refused(400);
    s7_1_an_empty_body_in_chunks: with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n" => Served;
    s7_1_an_empty_body_of_which_a_part_is_there: with("Transfer-Encoding: chunked\r\n") + "0\r\n\r" => Waits;
    s7_1_a_chunk: with("Transfer-Encoding: chunked\r\n") + "1\r\nx\r\n0\r\n\r\n" => Refused(400);
    s7_1_a_chunk_of_which_the_length_is_there: with("Transfer-Encoding: chunked\r\n") + "1" => Refused(400);
    s7_1_more_zeros_than_one: with("Transfer-Encoding: chunked\r\n") + "00\r\n\r\n" => Refused(400);
    s7_1_a_line_feed_alone_ends_no_chunk: with("Transfer-Encoding: chunked\r\n") + "0\n\n" => Refused(400);
    s7_1_1_chunk_extensions: with("Transfer-Encoding: chunked\r\n") + "0;a=b\r\n\r\n" => Refused(400);
    s7_1_2_trailers: with("Transfer-Encoding: chunked\r\n") + "0\r\nA: b\r\n\r\n" => Refused(400);
    s6_1_transfer_encoding_identity: with("Transfer-Encoding: identity\r\n") => Refused(400);
    s6_1_transfer_encoding_of_an_unknown_kind: with("Transfer-Encoding: xchunked\r\n") => Refused(400);
    s6_1_transfer_encoding_in_1_0: "GET /push?channel=a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" => Refused(400);
    s6_1_transfer_encoding_and_length: with("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n") => Refused(400);
    s6_1_transfer_encoding_with_a_vertical_tab: with("Transfer-Encoding: \x0bchunked\r\n") => Refused(400);
    s6_2_a_length: with("Content-Length: 5\r\n") => Refused(400);
    s6_2_the_length_0: with("Content-Length: 0\r\n") => Served;
    s6_2_a_length_with_a_sign: with("Content-Length: +0\r\n") => Refused(400);
    s6_2_a_negative_length: with("Content-Length: -1\r\n") => Refused(400);
    s6_2_a_length_in_hexadecimal: with("Content-Length: 0x0\r\n") => Refused(400);
    s6_2_an_empty_length: with("Content-Length:\r\n") => Refused(400);
    s6_3_two_lengths: with("Content-Length: 0\r\nContent-Length: 0\r\n") => Refused(400);
    s6_3_two_lengths_that_differ: with("Content-Length: 0\r\nContent-Length: 5\r\n") => Refused(400);
    s6_3_a_list_of_lengths: with("Content-Length: 0, 0\r\n") => Refused(400);
    s6_3_a_length_beyond_any_number: with("Content-Length: 18446744073709551616\r\n") => Refused(400);
}

/// Whether a connection stays open (section 9.3).
fn stays(text: &str) -> bool {
    read(text.as_bytes(), &Config::default(), &Known::default()).unwrap().unwrap().keep_alive
}

#[test]
fn s9_3_a_connection_stays_in_1_1() {
    assert!(stays(&with("")));
    assert!(stays(&with("Connection: keep-alive\r\n")));
}

#[test]
fn s9_3_a_connection_stays_in_1_0_only_where_asked() {
    assert!(!stays("GET /push?channel=a HTTP/1.0\r\n\r\n"));
    assert!(stays("GET /push?channel=a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

#[test]
fn s9_6_close_ends_it_wherever_it_stands_in_the_list() {
    for lines in
        ["Connection: close\r\n", "Connection: a, CLOSE\r\n", "Connection: keep-alive\r\nConnection: close\r\n"]
    {
        assert!(!stays(&with(lines)), "{lines}");
    }
}

#[test]
fn s9_3_2_a_second_request_is_left_for_later() {
    let two = with("").repeat(2);
    let head = read(two.as_bytes(), &Config::default(), &Known::default()).unwrap().unwrap();
    assert_eq!(head.size, two.len() / 2);
}

#[test]
fn s9_3_2_a_second_request_begins_behind_an_empty_body() {
    let one = with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n";
    let two = one.clone() + &with("");
    let head = read(two.as_bytes(), &Config::default(), &Known::default()).unwrap().unwrap();
    assert_eq!((head.size, head.body), (one.len(), 5));
}

#[test]
fn s11_2_what_smuggles_is_never_served() {
    // A front that reads each of these in another way than we do would take the rest for a request of its own.
    let framings = [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
        "Content-Length: 0\r\nContent-length: 6\r\n",
        "Content-Length: 0\0\r\n",
        "Content_Length: 6\r\nContent-Length: 6\r\n",
        "Foo: bar\rContent-Length: 6\r\n",
    ];
    for framing in framings {
        let text = with(framing) + "0\r\n\r\nGET /push?channel=secret HTTP/1.1\r\nHost: h\r\n\r\n";
        assert!(matches!(outcome(text.as_bytes()), Refused(400)), "{framing:?}");
    }
}
