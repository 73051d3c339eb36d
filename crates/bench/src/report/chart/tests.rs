use super::scale::Scale;
use super::*;

fn lines() -> Lines {
    let points = vec![(2.0, 0.5), (1.0, 0.25), (3.0, 0.75)];
    Lines {
        title: "a < b & \"c\"".into(),
        x_label: "x (1/s)".into(),
        y_label: "y (s)".into(),
        lines: vec![Line { name: "p50".into(), points }],
    }
}

#[test]
fn scales_hold_their_values_and_have_round_marks() {
    for highest in [1e-5, 0.03, 0.999, 1.0, 1.01, 7.0, 12.5, 99.0, 100.0, 12_345.0] {
        let scale = Scale::new(highest);
        let end = *scale.marks.last().unwrap();
        assert!(end >= highest * 0.999 && end <= highest * 2.0, "{highest}: {scale:?}");
        assert!((3..=7).contains(&scale.marks.len()), "{highest}: {scale:?}");
        let texts: std::collections::BTreeSet<String> =
            scale.marks.iter().map(|mark| scale.text(*mark)).collect();
        assert_eq!(texts.len(), scale.marks.len(), "{highest}: marks read alike in {texts:?}");
    }
    assert_eq!(Scale::new(f64::NAN).marks.last(), Some(&1.0));
}

#[test]
fn a_line_goes_from_left_to_right_whatever_the_order_of_its_points() {
    let svg = lines().svg(Theme::Light);
    let points = svg.split("<polyline points=\"").nth(1).unwrap().split('"').next().unwrap();
    let x: Vec<f64> =
        points.split(' ').map(|point| point.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(x.len(), 3);
    assert!(x.is_sorted(), "{x:?}");
    assert!(svg.contains("a &lt; b &amp; &quot;c&quot;"));
}

#[test]
fn every_chart_becomes_pixels_with_text_and_a_page() {
    let bars = Bars {
        title: "t".into(),
        y_label: "y".into(),
        x_label: String::new(),
        groups: vec!["g".into()],
        series: vec![("s".into(), vec![Some(1.0)]), ("none".into(), vec![None])],
    };
    let heat = Heat {
        title: "t".into(),
        x_label: String::new(),
        columns: vec!["a".into(), "b".into()],
        rows: vec![("r".into(), vec![Some(1.0), None])],
    };
    for theme in [Theme::Light, Theme::Dark] {
        for svg in [lines().svg(theme), bars.svg(theme), heat.svg(theme)] {
            let png = render(&svg, Format::Png, 48).unwrap();
            let pixels = Pixmap::decode_png(&png).unwrap();
            assert_eq!((pixels.width(), pixels.height()), (480, 288));
            // The title is there: pixels in its strip differ from the page's corner.
            let page = pixels.pixel(0, 0);
            let strip = (0..480).flat_map(|x| (8..22).map(move |y| (x, y)));
            assert!(strip.filter(|(x, y)| pixels.pixel(*x, *y) != page).count() > 5);
            assert!(render(&svg, Format::Pdf, 0).unwrap().starts_with(b"%PDF-"));
        }
    }
    assert!(render(&lines().svg(Theme::Light), Format::Png, 0).unwrap_err().to_string().contains("0 dpi"));
}
