"""Small real fits of known fault: a two-layer network in numpy, trained by Adam, with the cause set on purpose."""

import numpy as np

# kind: rate, epochs, samples, noise of the labels, whether the gradient reaches the weights
CAUSES = {
    "healthy": (1e-2, 60, 2000, 0.3, True),
    "overfit": (1e-2, 80, 40, 0.5, True),
    "lr_too_high": (1.0, 40, 1000, 0.3, True),
    "lr_too_low": (3e-6, 40, 1000, 0.3, True),
    "dead": (3e-3, 40, 1000, 0.3, False),
    "underfit": (3e-3, 25, 1000, 0.1, True),
}


def real_fit(kind, seed):
    """Train and return train (E,), val (E,), lr (E,): mean squared errors of each epoch."""
    rate, epochs, num, noise, learns = CAUSES[kind]
    rng = np.random.default_rng([seed, 11])
    truth = rng.normal(size=(8, 2))

    def drawn(count):
        x = rng.normal(size=(count, 8))
        return x, np.sin(x @ truth).sum(axis=1) + noise * rng.normal(size=count)

    (x, y), (xv, yv) = drawn(num), drawn(300)
    weights = [rng.normal(size=(8, 64)) / 3, np.zeros(64), rng.normal(size=64) / 8, np.zeros(1)]
    moments = [[np.zeros_like(w), np.zeros_like(w)] for w in weights]
    train, val, step = [], [], 0
    rates = (
        rate * 0.5 * (1 + np.cos(np.pi * np.arange(epochs) / epochs)) if kind == "healthy" else np.full(epochs, rate)
    )
    for now in rates:
        losses = []
        for rows in np.array_split(rng.permutation(num), max(1, num // 20)):
            loss, gradients = _loss(weights, x[rows], y[rows])
            losses.append(loss)
            step += 1
            for w, g, m in zip(weights, gradients, moments, strict=True):
                m[0], m[1] = 0.9 * m[0] + 0.1 * g, 0.999 * m[1] + 0.001 * g * g
                w -= learns * now * (m[0] / (1 - 0.9**step)) / (np.sqrt(m[1] / (1 - 0.999**step)) + 1e-8)
        train.append(np.mean(losses))
        val.append(_loss(weights, xv, yv)[0])
    return np.array(train), np.array(val), rates


def _loss(weights, x, y):
    w1, b1, w2, b2 = weights
    hidden = np.maximum(x @ w1 + b1, 0)
    error = hidden @ w2 + b2 - y
    back = 2 * error / len(y)
    inner = np.outer(back, w2) * (hidden > 0)
    return float(np.mean(error**2)), [x.T @ inner, inner.sum(0), hidden.T @ back, np.array([back.sum()])]
