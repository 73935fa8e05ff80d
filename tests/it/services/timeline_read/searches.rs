//! SearchSegments: stems, phrases, scripts without spaces, filters, ranks, pages, and texts that try to break it.

use interlock::proto::{
    CreateNamespaceRequest, CreateSessionRequest, SearchSegmentsRequest, SearchSegmentsResponse, SegmentStatus,
};
use tonic::Code;

use super::*;

fn search(query: &str) -> SearchSegmentsRequest {
    SearchSegmentsRequest { query: query.to_owned(), ..Default::default() }
}

async fn find(api: &Api, request: SearchSegmentsRequest) -> SearchSegmentsResponse {
    ok(timelines(api).search_segments(request).await)
}

/// Keys of what a search finds, in alphabetic order.
async fn found(api: &Api, request: SearchSegmentsRequest) -> String {
    let answer = find(api, request).await;
    let mut keys: Vec<String> =
        answer.results.into_iter().map(|result| result.segment.expect("a segment").key).collect();
    keys.sort_unstable();
    keys.join(" ")
}

/// The snippet of a result with its matches in brackets.
fn marked(result: &proto::SearchResult) -> String {
    let mut marked = String::new();
    for (i, c) in result.snippet.chars().enumerate() {
        marked.extend(result.matches.iter().any(|found| found.start == i as i32).then_some('['));
        marked.push(c);
        marked.extend(result.matches.iter().any(|found| found.end == i as i32 + 1).then_some(']'));
    }
    marked
}

#[tokio::test]
async fn words_are_found_as_the_language_of_each_segment_stems_them() {
    let server = Server::start().await;
    let api = &server.api;
    append_to(
        api,
        SESSION,
        vec![
            said("en", "en-US", "We were running through the houses, it's a well-known plan."),
            said("de", "de", "Die Häuser stehen in der Straße und laufen nicht."),
            said("fr", "fr", "L'été, les maisons étaient fermées."),
            said("xx", "tlh", "running houses häuser"),
            said("ja", "ja", "東京都の会議は１０時から始まります。"),
            said("zh", "zh-Hant", "我們在北京開會"),
            said("th", "th", "ประชุมที่กรุงเทพ"),
            said("ko", "ko", "서울에서 회의가 열렸습니다"),
            said("ru", "ru", "Мы обсуждали новые дома"),
            said("colours", "en", "green red"),
        ],
    )
    .await;
    for (query, expected) in [
        ("run", "en"),
        ("RUNNING", "en xx"),
        ("house", "en"),
        ("Haus", "de"),
        ("häuser", "de xx"),
        ("HÄUSER", "de xx"),
        ("maison", "fr"),
        ("дом", "ru"),
        ("the", "en"),
        ("running houses", "en xx"),
        ("\"running houses\"", "xx"),
        ("\"running through\"", "en"),
        ("houses -through", "xx"),
        ("houses -\"a well known\"", "xx"),
        ("houses -runs", "xx"),
        ("well-known", "en"),
        ("\"green red\"", "colours"),
        // Words that English does not count need not occur.
        ("the red of greens", "colours"),
        ("the \"red of\" los", ""),
        // The end of a text is not followed by its beginning.
        ("\"red green\"", ""),
        ("東京", "ja"),
        ("京都の", "ja"),
        ("京", "ja zh"),
        ("京東", ""),
        ("10時", "ja"),
        ("กรุงเทพ", "th"),
        // Vowels and tones are letters of their own.
        ("ร", "th"),
        ("รุ", "th"),
        ("회의", "ko"),
        ("nothing like it", ""),
    ] {
        assert_eq!(found(api, search(query)).await, expected, "{query}");
    }
    let answer = find(api, search("house run")).await;
    assert_eq!(
        answer.results.iter().map(marked).collect::<Vec<_>>(),
        ["We were [running] through the [houses], it's a well-known plan."]
    );
    assert_eq!(answer.results[0].session_id, SESSION);
    let answer = find(api, search("東京都 会議")).await;
    assert_eq!(answer.results.iter().map(marked).collect::<Vec<_>>(), ["[東京都]の[会議]は１０時から始まります。"]);
}

#[tokio::test]
async fn only_final_texts_of_the_namespace_are_found_and_conditions_hold() {
    let server = Server::start().await;
    let api = &server.api;
    let other = "other";
    ok(api.admin().create_namespace(CreateNamespaceRequest { name: other.into(), ..Default::default() }).await);
    let labelled = CreateSessionRequest {
        session_id: Some("labelled".into()),
        labels: labels(&[("team", "acme")]),
        ..Default::default()
    };
    ok(timelines(api).create_session(labelled).await);
    append_to(api, "labelled", vec![Segment { speaker: "Ann".into(), ..said("a", "en", "the budget of acme") }]).await;
    let interim = Segment { status: SegmentStatus::Interim.into(), ..said("interim", "en", "a budget") };
    let note = Segment { kind: SegmentKind::Note.into(), ..said("note", "de", "das Budget") };
    append_to(api, SESSION, vec![interim, note, said("b", "en", "budgets and more"), said("gone", "en", "budget")])
        .await;
    let deletion = proto::DeleteSegmentRequest { session_id: SESSION.into(), key: "gone".into(), ..Default::default() };
    ok(timelines(api).delete_segment(deletion).await);
    let elsewhere = proto::AppendSegmentsRequest {
        session_id: SESSION.into(),
        segments: vec![said("secret", "en", "budget")],
        allow_missing: true,
        ..Default::default()
    };
    ok(timelines(api).append_segments(within(other, elsewhere)).await);
    let budget = || search("budget");
    let long_ago = Some(prost_types::Timestamp { seconds: 1_000_000, nanos: 0 });
    for (request, expected) in [
        (budget(), "a b note"),
        (SearchSegmentsRequest { filter: "labels.team = acme".into(), ..budget() }, "a"),
        (SearchSegmentsRequest { filter: "session_id != labelled AND state = OPEN".into(), ..budget() }, "b note"),
        (SearchSegmentsRequest { kinds: vec![SegmentKind::Note.into()], ..budget() }, "note"),
        (SearchSegmentsRequest { speakers: vec!["Ann".into()], ..budget() }, "a"),
        (SearchSegmentsRequest { languages: vec!["EN".into()], ..budget() }, "a b"),
        (SearchSegmentsRequest { start_time: long_ago, ..budget() }, "a b note"),
        (SearchSegmentsRequest { end_time: long_ago, ..budget() }, ""),
    ] {
        assert_eq!(found(api, request.clone()).await, expected, "{request:?}");
    }
    let theirs = ok(timelines(api).search_segments(within(other, budget())).await).results;
    assert_eq!(theirs.len(), 1);
    ok(timelines(api)
        .delete_session(proto::DeleteSessionRequest { session_id: SESSION.into(), ..Default::default() })
        .await);
    assert_eq!(found(api, budget()).await, "a");
}

#[tokio::test]
async fn results_come_best_first_and_in_pages() {
    let server = Server::start().await;
    let api = &server.api;
    let mut segments: Vec<Segment> =
        (0..30).map(|i| said(&format!("s{i}"), "en", &format!("a plan {}", "and so on ".repeat(i + 1)))).collect();
    segments.push(said("best", "en", "plan plan plan"));
    append_to(api, SESSION, segments).await;
    let mut request = SearchSegmentsRequest { page_size: 7, ..search("plan") };
    let mut results = Vec::new();
    loop {
        let answer = find(api, request.clone()).await;
        assert!(answer.results.len() <= 7);
        results.extend(answer.results);
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let mut keys: Vec<String> = results.iter().map(|result| result.segment.clone().expect("a segment").key).collect();
    assert_eq!(keys[0], "best");
    assert!(results.windows(2).all(|pair| pair[0].rank >= pair[1].rank));
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((keys.len(), results.len()), (31, 31));
    let first = find(api, SearchSegmentsRequest { page_size: 1, ..search("plan") }).await;
    let other = SearchSegmentsRequest { page_token: first.next_page_token, ..search("plans") };
    field(timelines(api).search_segments(other).await, "page_token");
}

#[tokio::test]
async fn no_query_fails_for_its_characters() {
    let server = Server::start().await;
    let api = &server.api;
    append_to(api, SESSION, vec![said("a", "en", "it's O'Neill & Sons: C:\\dir <b>*</b>")]).await;
    for query in [
        "it's",
        "O'Neill",
        "'",
        "''",
        "\\",
        "a\\",
        "C:\\dir",
        "a:*",
        "a & b",
        "| a",
        "!a",
        "a <-> b",
        "(a",
        "a)",
        "\"a",
        "a\"b\"",
        "%",
        "_",
        "a\tb\nc",
        "<b>",
        "&amp;",
        "-a b",
        "a -",
        "\u{0}a",
        "🎉 a",
        "ﷺ",
        "a\u{301}\u{301}",
        "1e400",
        "3.14",
        "foo@example.com",
        "http://a.b/c?d=e",
        &"x".repeat(1_000),
        &"東".repeat(1_000),
        &"a b ".repeat(250),
        &"-a ".repeat(300),
        &"\"a\" ".repeat(250),
    ] {
        match timelines(api).search_segments(search(query)).await {
            Ok(_) => {}
            Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{query:?}: {status:?}"),
        }
    }
    for query in ["O'Neill", "c:\\dir", "\"it's o neill\"", "(sons"] {
        assert_eq!(found(api, search(query)).await, "a", "{query}");
    }
    for query in ["", " ", "-a", "!?", &"x".repeat(1_001)] {
        field(timelines(api).search_segments(search(query)).await, "query");
    }
    for (request, path) in [
        (SearchSegmentsRequest { filter: "colour = red".into(), ..search("a") }, "filter"),
        (SearchSegmentsRequest { kinds: vec![9], ..search("a") }, "kinds[0]"),
        (SearchSegmentsRequest { page_size: -1, ..search("a") }, "page_size"),
        (SearchSegmentsRequest { page_token: "?".into(), ..search("a") }, "page_token"),
    ] {
        field(timelines(api).search_segments(request).await, path);
    }
}

#[tokio::test]
async fn texts_of_any_kind_can_be_stored_and_the_end_of_long_ones_is_found() {
    let server = Server::start().await;
    let api = &server.api;
    let long = |text: &str| {
        text.chars()
            .cycle()
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= 65_000).then_some(c)
            })
            .collect::<String>()
    };
    let distinct: String = (0..9_000).map(|i| format!("w{i} ")).collect();
    let all_han: String = ('\u{4e00}'..'\u{9fff}').take(21_000).collect();
    append_to(
        api,
        SESSION,
        vec![
            said("ligatures", "ar", &long("\u{fdfa} ")),
            said("hyphens", "en", &long("a-b-c/d@e.f ")),
            said("han", "zh", &all_han),
            said("distinct", "en", &distinct),
            said("control", "en", "a\u{1}\u{7f}\u{200b}b\r\n\tc"),
            said("one", "en", &long("x")),
        ],
    )
    .await;
    assert_eq!(found(api, search("w8999")).await, "distinct");
    let last: String = all_han.chars().rev().take(1).collect();
    assert_eq!(found(api, search(&last)).await, "han");
}

#[tokio::test]
async fn vectors_are_the_same_whether_the_server_or_the_database_makes_them() {
    let server = Server::start().await;
    let (api, client) = (&server.api, sql(server.database.url()).await);
    let append = async |n: usize| {
        let said = |part: &str, language, text| said(&format!("{part}{n}"), language, text);
        let interim = Segment { status: SegmentStatus::Interim.into(), ..said("c", "en", "planning") };
        append_to(api, SESSION, vec![interim]).await;
        let corrected = Segment { sequence: 1, ..said("c", "en", "The planned planning") };
        append_to(api, SESSION, vec![said("e", "en", "Plans, the plans!"), said("d", "de", "Die Pläne"), corrected])
            .await;
    };
    append(0).await;
    // From here on the server makes them, or nothing does.
    client.batch_execute("ALTER TABLE segments DISABLE TRIGGER USER").await.expect("triggers");
    let mut rounds = 0;
    eventually("the words that the server looks up", async || {
        rounds += 1;
        append(rounds).await;
        let lacking = format!("SELECT key FROM segments WHERE search_vector IS NULL AND key LIKE '%{rounds}'");
        server.column(&lacking).await.is_empty().then_some(())
    })
    .await;
    let other =
        "SELECT key FROM segments WHERE search_vector <> segment_vector(search_config, coalesce(search_text, text))";
    assert_eq!(server.column(other).await, Vec::<String>::new());
    let keys = found(api, search("plan")).await;
    for key in ["c0", "e0"].map(str::to_owned).into_iter().chain(["c", "e"].map(|part| format!("{part}{rounds}"))) {
        assert!(keys.split(' ').any(|found| found == key), "{key} is not in {keys}");
    }
}
