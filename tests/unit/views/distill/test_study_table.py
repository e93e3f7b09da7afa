"""The table of the study comes back from its file."""

import numpy as np
import pytest

from yolostudy.runs import study_table as table
from yolostudy.views import read_study


def test_the_table_comes_back_with_its_means_and_deviations(tmp_path):
    runs = {
        "KL": {column: [0.1, 0.5, 0.3] for column in table.COLUMNS},
        "one": {column: [0.2] for column in table.COLUMNS},
    }
    runs["one"]["mAP50 novel"] = []
    (tmp_path / "table.csv").write_text(table.as_csv(runs))
    back = read_study(tmp_path / "table.csv")
    assert list(back) == ["KL", "one"] and back["one"]["mAP50 novel"] == [] and back["one"]["mAP50 base"] == [0.2]
    assert np.mean(back["KL"]["mAP50-95 all"]) == pytest.approx(0.3) and np.std(
        back["KL"]["mAP50-95 all"], ddof=1
    ) == pytest.approx(0.2)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no table of `yolostudy study-table`"):
        read_study(tmp_path / "other.csv")
