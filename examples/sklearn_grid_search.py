"""Search for the best penalty and label smoothing of a classifier of handwritten digits, in scikit-learn.

The data are scikit-learn's own copy of the UCI digits. The pipeline is what it would be with LogisticRegression; the
one line that differs makes its last step.

    python examples/sklearn_grid_search.py
"""

import argparse
import time

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fastsoftmax.sklearn import SoftmaxClassifier

GRID = {"classify__C": [0.01, 0.1, 1.0], "classify__label_smoothing": [0.0, 0.05, 0.1]}


def search(n_jobs, report=print):
    """Search the grid by cross-validation, and give what was found and its score on rows held back."""
    X, y = load_digits(return_X_y=True, as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(X.astype("float32"), y, random_state=0, stratify=y)
    pipeline = Pipeline([("scale", StandardScaler()), ("classify", SoftmaxClassifier(max_iter=300))])
    pipeline.set_output(transform="pandas")
    start = time.perf_counter()
    found = GridSearchCV(pipeline, GRID, n_jobs=n_jobs, scoring="neg_log_loss").fit(X_train, y_train)
    score = found.score(X_test, y_test)
    report(f"{len(found.cv_results_['params'])} settings, 5 folds each, in {time.perf_counter() - start:.1f} s")
    report(f"best: {found.best_params_}")
    report(f"held back: log loss {-score:.4f}, accuracy {found.best_estimator_.score(X_test, y_test):.3f}")
    return found, -score


def main():
    """Search as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    search(parser.parse_args().jobs)


if __name__ == "__main__":
    main()
