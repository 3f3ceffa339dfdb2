use super::*;

/// The same of a status, a body and a wait that is asked for.
fn classify(status: u16, body: &[u8], asked: Option<Duration>) -> Answer {
    let mut head = http::Response::builder().status(status);
    if let Some(asked) = asked {
        head = head.header("retry-after", asked.as_secs());
    }
    super::classify(&head.body(()).unwrap().into_parts().0, body)
}

/// An error body as FCM writes it.
fn body(status: &str, details: &str) -> String {
    format!(
        r#"{{"error":{{"code":0,"message":"any text","status":"{status}","details":[{details}]}}}}"#
    )
}

fn fcm(code: &str) -> String {
    format!(
        r#"{{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"{code}"}}"#
    )
}

fn violations(fields: &[&str]) -> String {
    let list: Vec<_> = fields
        .iter()
        .map(|field| format!(r#"{{"field":"{field}","description":"secret value"}}"#))
        .collect();
    format!(
        r#"{{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{}]}}"#,
        list.join(",")
    )
}

fn info(reason: &str) -> String {
    format!(
        r#"{{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"{reason}","domain":"googleapis.com"}}"#
    )
}

fn check(status: u16, body: &str, class: Class, reason: &str) {
    let answer = classify(status, body.as_bytes(), None);
    assert_eq!(answer.class, class, "{status} {body}");
    assert_eq!(answer.reason.as_deref(), Some(reason), "{status} {body}");
    assert_eq!(answer.status, Some(status));
    assert!(answer.started);
}

#[test]
fn a_success_names_the_message() {
    let answer = classify(200, br#"{"name":"projects/p/messages/0:17%a"}"#, None);
    assert_eq!(answer.class, Class::Accepted);
    assert_eq!(
        answer.provider_id.as_deref(),
        Some("projects/p/messages/0:17%a")
    );
    assert_eq!(answer.reason, None);
}

#[test]
fn a_success_that_fcm_did_not_write_is_none() {
    for text in [
        "",
        "<html>welcome</html>",
        "{}",
        r#"{"name":7}"#,
        r#"{"name":""}"#,
    ] {
        check(200, text, Class::Unknown, "http_200");
    }
}

#[test]
fn each_code_of_fcm_has_its_class() {
    for (status, code, class) in [
        (404, "UNREGISTERED", Class::DeadToken),
        (400, "INVALID_ARGUMENT", Class::SuspectToken),
        (403, "SENDER_ID_MISMATCH", Class::SuspectToken),
        (429, "QUOTA_EXCEEDED", Class::Throttled),
        (503, "UNAVAILABLE", Class::Unavailable),
        (500, "INTERNAL", Class::Unavailable),
        (401, "THIRD_PARTY_AUTH_ERROR", Class::PayloadFault),
        (400, "UNSPECIFIED_ERROR", Class::Unknown),
        (400, "SOMETHING_NEW", Class::Unknown),
        (404, "SOMETHING_NEW", Class::Unknown),
        (403, "SOMETHING_NEW", Class::CredentialFault),
        (503, "SOMETHING_NEW", Class::Unavailable),
    ] {
        // The status beside it must not matter: it is shared by other faults.
        for other in ["NOT_FOUND", "INVALID_ARGUMENT", "PERMISSION_DENIED"] {
            check(status, &body(other, &fcm(code)), class, code);
        }
    }
}

#[test]
fn no_token_is_dead_unless_fcm_says_so_with_the_right_status() {
    for status in [400, 403, 410] {
        let answer = classify(
            status,
            body("NOT_FOUND", &fcm("UNREGISTERED")).as_bytes(),
            None,
        );
        assert_ne!(answer.class, Class::DeadToken, "{status}");
    }
}

#[test]
fn what_google_did_not_write_says_nothing_of_project_account_or_message() {
    for status in [400, 401, 403, 404, 418] {
        for text in [
            "",
            "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>",
            "[]",
            "{}",
            r#"{"error":"gone"}"#,
            r#"{"error":{"message":"blocked"}}"#,
        ] {
            let reason = format!("http_{status}");
            check(status, text, Class::Unavailable, &reason);
            let detail = classify(status, text.as_bytes(), None).detail.unwrap();
            assert!(detail.contains("not from FCM"), "{detail}");
        }
    }
}

#[test]
fn a_404_without_an_fcm_error_is_a_wrong_project_and_keeps_the_token() {
    let bare = r#"{"error":{"code":404}}"#;
    check(404, bare, Class::CredentialFault, "http_404");
    check(
        404,
        &body("NOT_FOUND", ""),
        Class::CredentialFault,
        "NOT_FOUND",
    );
    let text = r#"{"error":{"message":"UNREGISTERED","status":"UNREGISTERED"}}"#;
    check(404, text, Class::CredentialFault, "UNREGISTERED");
}

#[test]
fn a_403_is_a_credential_fault_and_says_what_google_says() {
    let disabled = body("PERMISSION_DENIED", &info("SERVICE_DISABLED"));
    check(403, &disabled, Class::CredentialFault, "PERMISSION_DENIED");
    let answer = classify(403, disabled.as_bytes(), None);
    assert_eq!(answer.detail.as_deref(), Some("SERVICE_DISABLED"));
}

#[test]
fn a_401_means_that_the_access_token_is_stale() {
    check(
        401,
        &body("UNAUTHENTICATED", ""),
        Class::StaleCredential,
        "UNAUTHENTICATED",
    );
}

#[test]
fn field_violations_blame_the_payload_unless_they_name_the_token_alone() {
    let with_fcm = |fields: &[&str]| {
        let details = format!("{},{}", fcm("INVALID_ARGUMENT"), violations(fields));
        body("INVALID_ARGUMENT", &details)
    };
    let suspect = |fields: &[&str]| {
        check(
            400,
            &with_fcm(fields),
            Class::SuspectToken,
            "INVALID_ARGUMENT",
        );
    };
    let payload = |fields: &[&str]| {
        check(
            400,
            &with_fcm(fields),
            Class::PayloadFault,
            "INVALID_ARGUMENT",
        );
    };
    suspect(&["message.token"]);
    suspect(&["message.token", "message.token"]);
    suspect(&["message.fid"]);
    suspect(&[]);
    suspect(&[""]);
    payload(&["message.android.ttl"]);
    payload(&["message.token", "message.data[from]"]);
    payload(&["message.fid", "message.android.ttl"]);
    // The order of the details does not matter.
    let turned = format!(
        "{},{}",
        violations(&["message.data"]),
        fcm("INVALID_ARGUMENT")
    );
    check(
        400,
        &body("X", &turned),
        Class::PayloadFault,
        "INVALID_ARGUMENT",
    );
    let alone = body("INVALID_ARGUMENT", &violations(&["message"]));
    check(400, &alone, Class::PayloadFault, "INVALID_ARGUMENT");
    for field in ["message.token", "message.fid"] {
        let alone = body("INVALID_ARGUMENT", &violations(&[field]));
        check(400, &alone, Class::SuspectToken, "INVALID_ARGUMENT");
    }
}

#[test]
fn the_detail_names_the_fields_and_never_what_was_in_them() {
    let text = body(
        "INVALID_ARGUMENT",
        &violations(&["message.data[from]", "message.android.ttl"]),
    );
    let detail = classify(400, text.as_bytes(), None).detail.unwrap();
    assert_eq!(detail, "refused: message.data[from], message.android.ttl");
}

#[test]
fn a_400_that_explains_nothing_is_unknown() {
    check(
        400,
        &body("INVALID_ARGUMENT", ""),
        Class::Unknown,
        "INVALID_ARGUMENT",
    );
    check(
        409,
        &body("ALREADY_EXISTS", ""),
        Class::Unknown,
        "ALREADY_EXISTS",
    );
}

#[test]
fn a_redirect_is_unknown() {
    check(302, "", Class::Unknown, "http_302");
}

#[test]
fn throttling_waits_as_long_as_asked_or_a_minute() {
    let wait = |text: &str, asked| {
        let answer = classify(429, text.as_bytes(), asked);
        assert_eq!(answer.class, Class::Throttled);
        answer.retry_after.unwrap()
    };
    let limited = body("RESOURCE_EXHAUSTED", &info("RATE_LIMIT_EXCEEDED"));
    assert_eq!(wait(&limited, None), Duration::from_secs(60));
    assert_eq!(
        wait(&limited, Some(Duration::from_secs(3))),
        Duration::from_secs(3)
    );
    assert_eq!(
        wait(&body("X", &fcm("QUOTA_EXCEEDED")), None),
        Duration::from_secs(60)
    );
    assert_eq!(wait("", None), Duration::from_secs(60));
    check(429, &limited, Class::Throttled, "RESOURCE_EXHAUSTED");
    let bare = format!(
        r#"{{"error":{{"details":[{}]}}}}"#,
        info("RATE_LIMIT_EXCEEDED")
    );
    check(429, &bare, Class::Throttled, "RATE_LIMIT_EXCEEDED");
}

/// google.rpc.RetryInfo, as far as the header does not say it.
#[test]
fn a_wait_may_stand_in_the_details() {
    let wait = |status, delay: &str, asked| {
        let detail = format!(
            r#"{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{delay}}}"#
        );
        let details = format!("{},{detail}", info("RATE_LIMIT_EXCEEDED"));
        classify(status, body("X", &details).as_bytes(), asked).retry_after
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(wait(429, r#""3s""#, None), seconds(3));
    assert_eq!(wait(429, r#""3s""#, seconds(7)), seconds(7));
    assert_eq!(
        wait(503, r#""0.250s""#, None),
        Some(Duration::from_millis(250))
    );
    for absurd in [r#""-1s""#, r#""1e99s""#, r#""NaNs""#, r#""3""#, "3", "null"] {
        assert_eq!(wait(503, absurd, None), None, "{absurd}");
        assert_eq!(wait(429, absurd, None), seconds(60), "{absurd}");
    }
}

#[test]
fn a_request_that_timed_out_or_collided_is_tried_again() {
    check(409, &body("ABORTED", ""), Class::Unavailable, "ABORTED");
    check(408, &body("CANCELLED", ""), Class::Unavailable, "CANCELLED");
    check(408, "", Class::Unavailable, "http_408");
}

#[test]
fn trouble_at_fcm_is_retried_and_waits_only_if_asked() {
    for status in [500, 502, 503, 504] {
        check(
            status,
            "<html>",
            Class::Unavailable,
            &format!("http_{status}"),
        );
    }
    assert_eq!(classify(503, b"", None).retry_after, None);
    let asked = Some(Duration::from_secs(7));
    assert_eq!(classify(503, b"", asked).retry_after, asked);
    let denied = body("PERMISSION_DENIED", "");
    assert_eq!(classify(403, denied.as_bytes(), asked).retry_after, None);
}

#[test]
fn bodies_of_any_shape_are_survived() {
    for text in [
        "null",
        "[[]]",
        r#"{"error":[]}"#,
        r#"{"error":{"details":{}}}"#,
        r#"{"error":{"status":"two words\n"}}"#,
    ] {
        check(400, text, Class::Unavailable, "http_400");
    }
    for text in [
        r#"{"error":{"details":[1,null,"x",[],{"@type":5}]}}"#,
        r#"{"error":{"status":7,"details":[{"@type":"google.rpc.BadRequest","fieldViolations":[3]}]}}"#,
    ] {
        check(400, text, Class::Unknown, "http_400");
    }
    let no_code = r#"{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError"}"#;
    check(
        404,
        &body("NOT_FOUND", no_code),
        Class::Unknown,
        "NOT_FOUND",
    );
    let array = format!("[{}]", body("NOT_FOUND", &fcm("UNREGISTERED")));
    check(404, &array, Class::DeadToken, "UNREGISTERED");
}
